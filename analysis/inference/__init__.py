"""Regret, its intervals, verdicts on cells and over cells, and the seeds that they need."""
