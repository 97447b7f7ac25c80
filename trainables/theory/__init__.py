"""What an untrained network says of a loss's parameters: initial errors, and rules that set them.

`rules.analytic_rules` is the entrance. Only `sampled` and `measure` need torch.
"""
