"""From parquet to a verdict. Knows pandas, SciPy and scikit-learn; neither torch nor Ray."""
