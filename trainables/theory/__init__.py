"""Parameters of a loss computed from the number of classes, from an untrained network's errors.

`rules.analytic_rules` is the entry point. The package needs NumPy and SciPy only; `sampled`, for
losses whose initial error has no closed form, needs PyTorch and is imported on use.
"""
