"""The whole run in one place: charts that belong together, what it ends with, the way that it took."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from soul_lightning.callbacks.base import Metrics, ProbeCallback
from soul_lightning.callbacks.hyperparameters import hyperparameters
from soul_lightning.reports.layout import TRAINING, Chart, Headline, Layout, chart_layout, final_numbers
from soul_lightning.reports.loggers import Value, log_figure, log_hyperparameters, log_layout, logged_names
from soul_lightning.reports.run_figures import Measured, trade_off_figure, win_rate_figure

MOST_POINTS = 1000
"""Of one number; a longer run keeps every second."""


class Dashboard(Callback):
    """Arranges what a run logs, in the loggers that it has, and never changes training. List it last.

    In TensorBoard's Custom Scalars it lays out the charts of the measuring callbacks and of the training loop: forget
    against retain, restoration, privacy, utility, curvature; a chart is there as soon as there is something to draw. At
    the end it logs the hyperparameters with the numbers that the run ends with (`final/…`), which TensorBoard's HParams
    tab and Weights & Biases compare between runs, and draws the way that the run took between forgetting and keeping
    and, with a second-order optimizer, its win rate. `soul-lightning fit` adds one by itself.

    It works in any Lightning project; what it knows of are the measuring callbacks of this package, and yours where
    they say what belongs together (`ProbeCallback.charts` and `headlines`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, dict[int, float]] = {}
        self._seen: dict[str, Metrics] = {}
        self._layout: Layout = {}
        self._names = 0
        self._hyperparameters: dict[str, Value] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what was measured before training, and what the run is made with."""
        self._seen, self._layout, self._names = {}, {}, 0
        self._hyperparameters = hyperparameters(trainer, pl_module)
        self._note(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step's win rate, and what was measured at it."""
        self._note(trainer)
        for place, optimizer in enumerate(trainer.optimizers):
            rate = getattr(optimizer, "win_rate", None)
            if isinstance(rate, float):
                self._add(f"optimizer {place}", trainer.global_step, rate)
        self._lay_out(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what was measured at the epoch's end."""
        self._note(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the run, and log what it ends with."""
        self._note(trainer)
        self._lay_out(trainer)
        if not trainer.is_global_zero:
            return
        rates = {name: points for name, points in self.history.items() if name.startswith("optimizer ")}
        if len(rates) == 1:
            rates = {"this run": rates.popitem()[1]}
        for name, figure in (("run/trade_off", self._trade_off(trainer)), ("run/win_rate", win_rate_figure(rates))):
            if figure is not None:
                log_figure(trainer, name, figure)
        metrics = {name: value for callback in _measuring(trainer) for name, value in callback.metrics.items()}
        log_hyperparameters(trainer, self._hyperparameters, final_numbers(_headlines(trainer), metrics))

    def _note(self, trainer: Trainer) -> None:
        """Keep, of what was measured since the last look, the numbers that the trade-off is made of."""
        for callback in _measuring(trainer):
            if callback.metrics is self._seen.get(callback.name):
                continue
            self._seen[callback.name] = callback.metrics
            for headline in callback.headlines:
                name = headline.find(callback.name, callback.metrics) if headline.axis else None
                value = callback.metrics[name] if name is not None else None
                if name is not None and value is not None:
                    self._add(name, trainer.global_step, value)

    def _add(self, name: str, step: int, value: float) -> None:
        points = self.history.setdefault(name, {})
        points[step] = value
        if len(points) > MOST_POINTS:
            self.history[name] = dict(list(points.items())[::2])

    def _lay_out(self, trainer: Trainer) -> None:
        """Arrange the charts, where something is logged that was not before."""
        names = logged_names(trainer)
        if len(names) == self._names:
            return
        self._names = len(names)
        layout = chart_layout([*_charts(trainer), *TRAINING], names)
        if layout != self._layout:
            log_layout(trainer, layout)
            self._layout = layout

    def _trade_off(self, trainer: Trainer) -> Figure | None:
        """All that says how much is forgotten, over the first that says how much is kept and was measured with it."""
        found: dict[str, list[Measured]] = {"forgotten": [], "kept": []}
        for group, headline in _headlines(trainer):
            name = headline.find(group, self.history) if headline.axis else None
            if name is not None and headline.axis is not None:
                measured = Measured(headline.called(group, name), self.history[name], headline.reading)
                found[headline.axis].append(measured)
        figures = (trade_off_figure(found["forgotten"], kept) for kept in found["kept"])
        return next((figure for figure in figures if figure is not None), None)

    def state_dict(self) -> dict[str, Any]:
        """The run up to now, as plain values."""
        return {"history": {name: dict(points) for name, points in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.history = {name: dict(points) for name, points in state_dict["history"].items()}


def _measuring(trainer: Trainer) -> list[ProbeCallback]:
    return [callback for callback in getattr(trainer, "callbacks", []) if isinstance(callback, ProbeCallback)]


def _charts(trainer: Trainer) -> list[tuple[str, Chart]]:
    return [(callback.name, chart) for callback in _measuring(trainer) for chart in callback.charts]


def _headlines(trainer: Trainer) -> list[tuple[str, Headline]]:
    return [(callback.name, headline) for callback in _measuring(trainer) for headline in callback.headlines]
