"""The examples in docstrings give what they say."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import analysis
import study
import trainables


def modules_with_examples() -> list[str]:
    names = []
    for package in (study, trainables, analysis):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = importlib.util.find_spec(info.name)
            if spec and spec.origin and spec.origin.endswith(".py"):
                with open(spec.origin, encoding="utf-8") as file:
                    if ">>> " in file.read():
                        names.append(info.name)
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed
