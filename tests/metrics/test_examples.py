"""The examples in the docstrings of the metrics."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

from soul_lightning import metrics

MODULES = [
    module.name
    for module in pkgutil.iter_modules(metrics.__path__)
    if ">>> " in (Path(metrics.__path__[0]) / f"{module.name}.py").read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"soul_lightning.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
