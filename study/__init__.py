"""What to run, where, and how results are kept. Uses Ray, Optuna and pydantic."""
