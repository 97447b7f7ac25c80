"""A study in other programs' formats."""
