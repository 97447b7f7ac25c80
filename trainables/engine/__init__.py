"""Training a cohort: K networks of one group, side by side."""
