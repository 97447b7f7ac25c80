"""From parquet to a verdict. Uses pandas, SciPy and scikit-learn, and neither torch nor Ray."""
