"""What a complete run has left, but for what a clock says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_OF_A_CLOCK = ("seconds", "cpu_seconds", "curvature/refresh_seconds", "curvature/refresh_time_share")


def left_by(run: Path) -> dict[str, Any]:
    """Weights, summary, rows and every scalar of the curves, by name; what differs in no bit is equal."""
    left: dict[str, Any] = {f"{name}/weights": weights_of(run / name) for name in ("export", "exported")}
    left |= {f"summary/{name}": value for name, value in summary_of(run).items()}
    left |= {f"rows/{path.name}": path.read_text() for path in sorted((run / "rows").iterdir())}
    left |= {f"curves/{tag}@{step}": values for (tag, step), values in _scalars(run).items()}
    names = {path.name.split(".")[0] if path.name.startswith("events") else path.name for path in run.iterdir()}
    return left | {"files": sorted(names)}


def weights_of(export: Path) -> str:
    """A hash of an exported model's weights."""
    return hashlib.sha256((export / "model.safetensors").read_bytes()).hexdigest()


def summary_of(run: Path) -> dict[str, Any]:
    """A run's summary."""
    summary = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name not in _OF_A_CLOCK}


def _scalars(run: Path) -> dict[tuple[str, int], set[float]]:
    """The different values of each curve at each step: one, however often it was written."""
    found: dict[tuple[str, int], set[float]] = {}
    for path in sorted(run.glob("events.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                if tag not in _OF_A_CLOCK:
                    found.setdefault((tag, event.step), set()).add(event.value)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same in both."""
    return [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
