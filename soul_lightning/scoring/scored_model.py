"""One model and what it says of probes: each pass is run once, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from soul_lightning.encoding import rows_hash
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.evaluation import isolated_evaluation
from soul_lightning.scoring.gradient_norms import gradient_norms
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.scoring.scorer import ExampleScore, Scorer
from soul_lightning.scoring.time_limit import check_time

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class AlternativeScores:
    """What a model says of a row's other answers.

    Attributes:
        paraphrase: The true answer in other words, where the row has one.
        perturbed: The false answers, in their order.
    """

    paraphrase: ExampleScore | None
    perturbed: Sequence[ExampleScore]


@dataclass
class ScoredModel:
    """A model, the settings of its passes, and what they have found.

    Attributes:
        adapter: The model.
        token_budget: Most tokens of a batch of the teacher-forced pass.
        max_tokens: Longer rows are cut on the right.
        isolation: Around every pass; of a model in training what keeps its training as it is.
        found: Results by what was asked; shared where several askers have one model.
    """

    adapter: CausalLMAdapter
    token_budget: int = 2048
    max_tokens: int = 512
    isolation: Callable[[], AbstractContextManager[Any]] = nullcontext
    found: dict[Hashable, Any] = field(default_factory=dict)

    @classmethod
    def in_training(
        cls, trainer: Trainer, adapter: CausalLMAdapter, token_budget: int = 2048, max_tokens: int = 512
    ) -> ScoredModel:
        """The model that `trainer` trains; its passes of an optimizer step are shared by all callbacks of the trainer.

        Args:
            trainer: Whose weights, step and precision they are.
            adapter: The model.
            token_budget: Most tokens of a batch.
            max_tokens: Longer rows are cut.
        """
        return cls(
            adapter,
            token_budget,
            max_tokens,
            partial(isolated_evaluation, adapter.network, trainer),
            _passes.setdefault(trainer, {}).setdefault(
                (trainer.global_step, _identity(adapter.network), id(adapter.tokenizer)), {}
            ),
        )

    def scores(self, probe: Probe) -> dict[int, ExampleScore]:
        """The score of each row's own answer by `Example.index`; rows without a label within `max_tokens` lack one."""
        scores = self._scored(probe.examples, probe)
        return {score.index: score for score in scores}

    def alternatives(self, probe: Probe) -> dict[int, AlternativeScores]:
        """Scores of paraphrases and false answers by `Example.index`; rows that have neither, or are cut, lack them."""
        texts: list[Example] = []
        places: dict[int, tuple[int | None, list[int]]] = {}
        for row in probe.examples:
            answers = [*([row.paraphrase] if row.paraphrase else []), *row.perturbed]
            numbers = list(range(len(texts), len(texts) + len(answers)))
            texts += [
                replace(row, answer=answer, index=number) for answer, number in zip(answers, numbers, strict=True)
            ]
            if answers:
                places[row.index] = (numbers[0], numbers[1:]) if row.paraphrase else (None, numbers)
        if not texts:
            return {}
        scored = {score.index: score for score in self._scored(texts, probe)}
        return {
            index: AlternativeScores(
                scored[paraphrase] if paraphrase is not None else None, [scored[number] for number in perturbed]
            )
            for index, (paraphrase, perturbed) in places.items()
            if (paraphrase is None or paraphrase in scored) and all(number in scored for number in perturbed)
        }

    def score_texts(self, examples: Sequence[Example], probe: Probe) -> dict[int, ExampleScore]:
        """Scores of other rows, written as those of `probe` are, by their index."""
        return {score.index: score for score in self._scored(examples, probe)}

    def gradient_norms(self, probe: Probe) -> dict[int, float]:
        """‖∇ NLL/|y|‖ of each row over the weights that train (all where none does), by `Example.index`."""
        key = ("gradient norms", _rows_key(probe.examples), probe.template, self.max_tokens)
        return self._once(key, lambda: gradient_norms(self.adapter, probe, self.max_tokens))

    def answers(
        self,
        probe: Probe,
        max_new_tokens: int,
        batch_size: int = 32,
        stop: str | None = None,
        sampling: Sampling | None = None,
    ) -> list[str]:
        """Greedy or drawn answers to the prompts of `probe`, in order."""
        key = ("answers", _rows_key(probe.examples), probe.template, max_new_tokens, stop, sampling)
        return self._once(
            key,
            lambda: self.adapter.generate(
                probe.examples, probe.template, max_new_tokens, batch_size, stop, sampling=sampling
            ),
        )

    def _scored(self, examples: Sequence[Example], probe: Probe) -> list[ExampleScore]:
        key = ("scores", _rows_key(examples), probe.template, self.max_tokens)
        scorer = Scorer(self.adapter, self.token_budget, self.max_tokens)
        return self._once(key, lambda: self._finite(scorer(examples, probe.template), probe))

    @staticmethod
    def _finite(scores: list[ExampleScore], probe: Probe) -> list[ExampleScore]:
        """The scores that are numbers: a model that has diverged must not end the run that only measures it."""
        finite = [score for score in scores if math.isfinite(score.nll)]
        if len(finite) < len(scores):
            rank_zero_warn(
                f"{len(scores) - len(finite)} of {len(scores)} texts of the probe {probe.name!r} have a loss that is "
                f"no finite number and are left out: the model has diverged"
            )
        return finite

    def _once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        if key not in self.found:
            check_time()
            with self.isolation():
                self.found[key] = compute()
        result: Found = self.found[key]
        return result


def _rows_key(examples: Sequence[Example]) -> Hashable:
    """What the rows say, and which of them were cut: no end is scored there."""
    return rows_hash(examples), tuple(row.index for row in examples if row.is_cut)


def _identity(network: nn.Module) -> Hashable:
    """The same for all that look at the same network in the same way."""
    return (id(network.network), network.logits_function) if isinstance(network, LogitsNetwork) else id(network)


_passes: WeakKeyDictionary[Trainer, dict[Hashable, dict[Hashable, Any]]] = WeakKeyDictionary()


def drop_scores(trainer: Trainer) -> None:
    """Forget the passes of `trainer`: its weights are about to change."""
    _passes.pop(trainer, None)
