"""Accuracy as a function of ε: which curves fit a sweep, and where the best ε lies.

The modules build on each other: `shapes` (the loss beside the maximum), `curves` (the
posterior of a curve and of its maximum), `fit` (one cell's sweep).
"""
