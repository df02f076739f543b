"""What every measuring callback here is: due at known steps, logged on the axis of optimizer steps, without a trace."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from transformers import PreTrainedTokenizerBase

from soul_lightning.callbacks.sources import find_network, find_probes, find_tokenizer, limited
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.file_names import check_file_name
from soul_lightning.networks.foreign import LogitsFunction, LogitsNetwork
from soul_lightning.progress import labelled
from soul_lightning.protocols import Probe
from soul_lightning.records.probe_files import ProbeFile
from soul_lightning.reports.charts import BarChart, Curve
from soul_lightning.reports.findings import Finding
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.reports.loggers import log_beside, log_numbers
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.evaluation import kept_random_state
from soul_lightning.scoring.ranks import Ranks
from soul_lightning.scoring.scored_model import ScoredModel, drop_scores

Metrics = dict[str, float | None]
EVALUATIONS = (TrainerFn.VALIDATING, TrainerFn.TESTING)
"""What a Trainer does where there is nothing but to measure."""


class ProbeCallback(Callback):
    """Measures a causal language model on probes, under `fit`, `validate` and `test`, and never changes training.

    Under `fit` it measures before training, at epoch ends and every so many steps; under `Trainer.validate` and
    `Trainer.test` once. The validation loop of a fit is left alone. `test` is the final account: it takes every
    example, whatever `limit` says.

    It works in any Lightning project: the model is found in its own arguments, then as `network` or `model` of the
    LightningModule; tokenizer and probes in its own arguments, then in the DataModule, then in the LightningModule.
    Metrics reach `ModelCheckpoint` and `EarlyStopping` under their names (list such callbacks after this one), and
    every logger at the present optimizer step. Several processes share the work.

    A subclass says what is measured, in `measure`, and what that needs, in `prepare`.

    Args:
        name: The metrics' group and the key of this callback's state; two of a kind need different names.
        probes: What to measure on: probes, files of rows, or files by role (`{forget: forget.jsonl}`); the
            DataModule's probes if none are given.
        network: Attribute of the LightningModule that holds the language model (dots allowed), if it is neither
            `network` nor `model`.
        tokenizer: Folder or name of a tokenizer, or the tokenizer; the DataModule's or the module's if none is given.
        forward: How a network that is no Hugging Face model is asked: a function of the network, `input_ids` and
            `attention_mask`, [batch, tokens] each, that returns logits, [batch, tokens, vocabulary].
        every_n_epochs: Measure at the end of every so many epochs; none for the end of the fit only.
        every_n_steps: Measure also every so many optimizer steps; none for epoch ends only.
        before_training: Measure also before the first step.
        limit: Use so many examples of each probe, drawn once by `seed`; none for all.
        seed: Seed of that draw and of the bootstrap intervals.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    charts: ClassVar[tuple[Chart, ...]] = ()
    """Which of its metrics have a chart in TensorBoard's Custom Scalars."""
    headlines: ClassVar[tuple[Headline, ...]] = ()
    """Which of them sum a run up, in the table that compares runs."""

    def __init__(
        self,
        name: str,
        probes: list[Probe | ProbeFile] | dict[str, str] | None = None,
        network: str | None = None,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        forward: LogitsFunction | None = None,
        every_n_epochs: int | None = 1,
        every_n_steps: int | None = None,
        before_training: bool = True,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        for setting, value in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps), ("limit", limit)):
            if value is not None and value < 1:
                raise MisconfigurationError(f"{kind}: {setting} must be >= 1, got {value}")
        self.name = check_file_name(name, f"{kind}: name")
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.before_training = before_training
        self.limit = limit
        self.seed = seed
        self.metrics: Metrics = {}
        self.probes: list[Probe] = []
        self._own_probes = probes
        self._own_tokenizer = tokenizer
        self._network_attribute = network
        self._forward = forward
        self._measured_at_step: int | None = None
        self._adapter: CausalLMAdapter | None = None

    @property
    def state_key(self) -> str:
        """Keeps the states of two callbacks of a kind apart in a checkpoint."""
        return f"{type(self).__qualname__}[{self.name}]"

    @property
    def adapter(self) -> CausalLMAdapter:
        """The model that is measured, from the start of a fit or an evaluation on."""
        if self._adapter is None:
            raise RuntimeError(f"{type(self).__name__} has no model before trainer.fit, validate or test")
        return self._adapter

    @abstractmethod
    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that `self.probes` hold what is needed, and keep it.

        Raises:
            MisconfigurationError: A probe is missing.
        """

    @abstractmethod
    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The metrics at the present step, by names without the group; `None` where a number has no meaning.

        Everything that runs the model stands under `soul_lightning.scoring.evaluation.isolated_evaluation`.
        """

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What must happen before the first step or measurement, be the model as it is measured or not."""

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is left to do with the last metrics, at the end of a fit or an evaluation."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the model and the probes, so that what is missing is said before anything is trained."""
        with kept_random_state(pl_module):
            self._find(trainer, pl_module)

    def _find(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kind = type(self).__name__
        self._check_name(trainer)
        network = find_network(kind, pl_module, self._network_attribute)
        if self._forward is not None:
            network = LogitsNetwork(network, self._forward)
        tokenizer = find_tokenizer(kind, trainer, pl_module, self._own_tokenizer)
        self._adapter = CausalLMAdapter(network, tokenizer, Ranks.of(trainer, network))
        found = find_probes(kind, trainer, pl_module, self._own_probes)
        limit = self.limit if trainer.state.fn != TrainerFn.TESTING else None
        self.probes = [limited(probe, limit, self.seed) for probe in found]
        self._measured_at_step = None
        self.prepare(trainer, pl_module)

    def _check_name(self, trainer: Trainer) -> None:
        for other in getattr(trainer, "callbacks", []):
            if isinstance(other, ProbeCallback) and other is not self and other.name == self.name:
                raise MisconfigurationError(
                    f"{type(self).__name__} and {type(other).__name__} are both called {self.name!r} and would write "
                    f"over each other's metrics and files; give one of them another name"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        self._begin(trainer, pl_module)
        if self.before_training and trainer.global_step == 0:
            self._measure_and_log(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The weights are about to change: what was scored is of no more use."""
        drop_scores(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure when a step is due."""
        steps = trainer.global_step
        due = self.every_n_steps is not None and steps > 0 and steps % self.every_n_steps == 0
        if due and steps != self._measured_at_step:
            self._measure_and_log(trainer, pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure when an epoch is due."""
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._measure_and_log(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the final model, where the last epoch was not due."""
        if trainer.global_step != self._measured_at_step:
            self.metrics = self._measured(trainer, pl_module)
            log_numbers(trainer, self.metrics)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the account of the fit; what the models beside come to is a level line to its last step."""
        log_beside(trainer, self.name, self.beside())
        self.finish(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find model and probes under `Trainer.validate` and `Trainer.test`."""
        if trainer.state.fn in EVALUATIONS:
            self.on_fit_start(trainer, pl_module)
            self._begin(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure under `Trainer.validate` and `Trainer.test`; the validation loop of a fit is not ours."""
        if trainer.state.fn in EVALUATIONS:
            self._measure_and_log(trainer, pl_module)
            self.finish(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As under `Trainer.validate`."""
        self.on_validation_start(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As under `Trainer.validate`."""
        self.on_validation_epoch_end(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the model and of what was scored."""
        drop_scores(trainer)
        self._adapter = None

    def _measure_and_log(self, trainer: Trainer, pl_module: LightningModule, on_step: bool = False) -> None:
        evaluates = trainer.state.fn in EVALUATIONS
        if trainer.global_step != self._measured_at_step:
            self.metrics = self._measured(trainer, pl_module)
            self._measured_at_step = trainer.global_step
            if not evaluates:
                log_numbers(trainer, self.metrics)
        for name, value in self.metrics.items():
            if value is not None:
                # Every rank has measured the same; sync_dist only tells Lightning so. batch_size, because Lightning
                # would look for one in a batch whose form it does not know. What trainer.validate returns is what it
                # logs itself; under fit it would log on an axis of its own.
                pl_module.log(
                    name, value, logger=evaluates, on_step=on_step, on_epoch=not on_step, batch_size=1,
                    sync_dist=trainer.world_size > 1,
                )  # fmt: skip

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with kept_random_state(pl_module), labelled(self.name):
            self.begin(trainer, pl_module)

    def _measured(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        # Not the model alone draws random numbers: libraries that a metric asks may, too.
        with kept_random_state(pl_module), labelled(self.name):
            return self._grouped(self.measure(trainer, pl_module))

    def _grouped(self, metrics: Mapping[str, float | None]) -> Metrics:
        return {f"{self.name}/{name}": value for name, value in metrics.items()}

    def metrics_of(self, model: ScoredModel) -> Metrics:
        """What this callback measures of another model that stands where the measured one does; nothing is kept.

        Args:
            model: A changed copy of the measured model.

        Returns:
            Metrics by names without the group; none where the callback measures nothing but its own model.
        """
        return {}

    def beside(self) -> Mapping[str, Metrics]:
        """What other models come to that stand beside the measured one: by model, names without the group."""
        return {}

    def findings(self) -> list[Finding]:
        """What the last measurement says to the questions of an audit; nothing where it answers none."""
        return []

    def curves(self) -> list[Curve]:
        """What the last measurement has to draw over steps, layers and the like."""
        return []

    def bars(self) -> list[BarChart]:
        """What it has to draw of several things side by side."""
        return []

    def notes(self) -> list[str]:
        """Sentences to read with the numbers."""
        return []

    def summary(self) -> Mapping[str, float | None]:
        """The last metrics, for the run's summary."""
        return dict(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """The last metrics, as plain values."""
        return {"metrics": dict(self.metrics)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.metrics = dict(state_dict.get("metrics", {}))
