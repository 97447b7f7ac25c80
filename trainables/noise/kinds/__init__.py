"""The kinds of label noise: every module of this package registers its own.

`trainables.noise.registry` imports all of them; a new module needs no entry anywhere else.
"""
