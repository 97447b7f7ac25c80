"""The study file: its sections, their validation, and one-line errors."""
