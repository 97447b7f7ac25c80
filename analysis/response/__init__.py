"""Accuracy as a function of ε and learning rate.

Two questions, with two groups of modules:

- The value of an ε: `gaussian_surface` (a Gaussian process), `top` (one loss's surface near its
  top), `line` (one ε far below it), `surface` (a cell's surfaces: where arms are confirmed, and
  how far their points fall short).
- The best ε of a sweep: `shapes` (losses beside the maximum), `domes`, `collapses` and `sides`
  (kinds of curves), `quadrature` (what they share), `curves` (their posterior), `fit` (one cell's
  sweep).
"""
