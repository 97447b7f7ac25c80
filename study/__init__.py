"""What to run, where, and how results are kept. Knows Ray, Optuna and pydantic."""
