"""Accuracy as a function of ε, and the best ε with an interval."""
