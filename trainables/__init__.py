"""Everything that trains. Needs torch and NumPy; only `trainables.tune` knows Ray."""
