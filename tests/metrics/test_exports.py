"""What the package of metrics exports, and that it means the same whatever was imported before."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest
from torchmetrics import Metric

from soul_lightning import metrics


def test_no_exported_name_is_that_of_a_module() -> None:
    """Importing the module would put it in the name's place."""
    assert not set(metrics.__all__) & {module.name for module in pkgutil.iter_modules(metrics.__path__)}


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_exported_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(metrics, name)
    assert value.__name__ == name
    assert value.__module__.startswith("soul_lightning.metrics.")
    assert value.__doc__
    if isinstance(value, type) and issubclass(value, Metric) and value is not metrics.RowMetric:
        assert ">>> metric" in value.__doc__


def test_the_package_itself_loads_no_torch() -> None:
    code = "import sys; import soul_lightning.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'accuracy'"):
        metrics.accuracy  # noqa: B018
