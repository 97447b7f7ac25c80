"""Accuracy as a function of ε: which curves fit a sweep, and where the best ε lies.

The modules build on each other: `shapes` (families of response shapes), `smc` (the sampler),
`curves` (posterior draws of curves), `fit` (one cell's sweep).
"""
