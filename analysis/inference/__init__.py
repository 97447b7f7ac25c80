"""Value and procedure, verdicts on cells and over cells, and the seeds that they need."""
