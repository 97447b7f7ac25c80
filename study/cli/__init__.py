"""The command line: the one place above `study`, `analysis` and `trainables`."""
