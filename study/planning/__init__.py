"""What a study trains and in which order; without Ray, and nothing here writes a file."""
