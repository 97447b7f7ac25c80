"""Reading study folders into data frames."""
