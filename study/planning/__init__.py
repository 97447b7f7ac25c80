"""What a study trains, and in which order: pure, without Ray and without files."""
