"""Everything that trains. Needs torch and NumPy; only `trainables.tune` imports Ray."""
