"""Layers that hold the parameters of K networks."""
