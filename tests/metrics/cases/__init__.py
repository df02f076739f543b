"""A case for every metric class."""

from __future__ import annotations

from collections import Counter

from tests.metrics.cases import attacks, existing, generated
from tests.metrics.cases.case import Case

MODULES = (existing, generated, attacks)

CASES: dict[str, Case] = {name: case for module in MODULES for name, case in module.CASES.items()}

TWICE = [name for name, times in Counter(name for module in MODULES for name in module.CASES).items() if times > 1]
assert not TWICE, f"two modules have a case named {TWICE}"
