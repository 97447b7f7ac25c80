"""Regret, its intervals, verdicts, and what they need in seeds."""
