"""Samplers of the search: the registry, and one module per sampler.

To add a sampler, write a module with a `Sampler` decorated by `@register` and import it here.
"""

from study.samplers import grid, quasi_random, random, tpe
from study.samplers.base import (
    Params,
    Sampler,
    SamplerError,
    SearchSpace,
    ValueRange,
    get,
    names,
    register,
)

__all__ = [
    "Params",
    "Sampler",
    "SamplerError",
    "SearchSpace",
    "ValueRange",
    "get",
    "grid",
    "names",
    "quasi_random",
    "random",
    "register",
    "tpe",
]
