"""What a study trains and in which order. The package does not use Ray and writes no file."""
