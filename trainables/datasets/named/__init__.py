"""The data sets that have a name: every module of this package registers its own.

`trainables.datasets.registry` imports all of them; a new module needs no entry anywhere else.
"""
