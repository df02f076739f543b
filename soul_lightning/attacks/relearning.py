"""Fine-tuning a copy on a little text: does what was unlearned come back, though that text does not say it?

Relearning on a share of the forgotten facts and asking for the others is Hu et al. 2024, «Jogging the Memory of
Unlearned Models Through Targeted Relearning Attacks», and Lynch et al. 2024, «Eight Methods to Evaluate Robust
Unlearning in LLMs»; on text of the same field, and of another, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np
import torch
from torch import nn

from soul_lightning.attacks.copies import throw_away_copy
from soul_lightning.attacks.knowledge import Asking, knowledge
from soul_lightning.encoding import EncodedExample, collate, encode_labelled
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import label_predictions
from soul_lightning.progress import counted
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.measured_rows import Value
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.scoring.time_limit import check_time

SERIES = ("known", "guessed", "probability")
"""What is followed over the steps, of what `knowledge` gives."""
RowKey = tuple[str, int]
"""Name of the probe and `Example.index`."""


@dataclass(frozen=True)
class FineTuning:
    """How the copy is trained: AdamW at a fixed rate, without weight decay or dropout, in float32.

    Attributes:
        learning_rate: Of every step. Small networks take more: those of the tests, 64 wide, come back faster at 1e-3.
        batch_size: Rows a step; all where there are fewer.
        measure_at: The optimizer steps after which the model is asked, ascending from 0; the attack ends at the last.
    """

    learning_rate: float = 1e-4
    batch_size: int = 8
    measure_at: Sequence[int] = (0, 2, 5, 10, 20, 50)

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        if self.learning_rate <= 0 or self.batch_size < 1:
            raise MisconfigurationError(
                f"training.learning_rate must be above 0 and training.batch_size >= 1, got {self.learning_rate} and "
                f"{self.batch_size}"
            )
        steps = list(self.measure_at)
        object.__setattr__(self, "measure_at", tuple(steps))  # a list says the same, in rows files too
        if len(steps) < 2 or steps[0] != 0 or steps != sorted(set(steps)):
            raise MisconfigurationError(
                f"training.measure_at must ascend from 0 to the attack's last optimizer step, such as 0, 10, 50, got "
                f"{steps}"
            )


@dataclass(frozen=True)
class Lesson:
    """What a copy is taught, and what it is asked afterwards.

    Attributes:
        taught: Rows that it is trained on.
        asked: Rows that must be gone, none of which it is trained on.
    """

    taught: Sequence[Probe]
    asked: Sequence[Probe]


def lesson_on_share(forgotten: Sequence[Probe], share: float, seed: int) -> Lesson | None:
    """Teaches some subjects of what is forgotten, and asks for all others.

    Args:
        forgotten: What must be gone. A row without a subject is one by itself, and so is each where all are about one.
        share: Of the subjects, at least one.
        seed: Of the draw.

    Returns:
        Nothing where there is a single subject, so that none is left to ask for.
    """
    subjects = {row.subject for probe in forgotten for row in probe.examples}
    lone = len(subjects) == 1

    def entity(probe: Probe, row: Example) -> str:
        return row.subject if row.subject and not lone else f"{probe.name} {row.index}"

    entities = sorted({entity(probe, row) for probe in forgotten for row in probe.examples})
    if len(entities) < 2:
        return None
    count = min(max(1, round(share * len(entities))), len(entities) - 1)
    drawn = set(Random(seed).sample(entities, count))
    halves = [
        [
            replace(probe, examples=[row for row in probe.examples if (entity(probe, row) in drawn) is taught])
            for probe in forgotten
        ]
        for taught in (True, False)
    ]
    taught, asked = ([probe for probe in half if probe.examples] for half in halves)
    return Lesson(taught, asked)


def lesson_on_others(texts: Sequence[Probe], forgotten: Sequence[Probe]) -> Lesson | None:
    """Teaches other texts, without those that state what is forgotten, and asks for all of it.

    Args:
        texts: Texts or questions with answers.
        forgotten: What must be gone. A text states a row if it holds its answer and its subject (where it has none, its
            prompt).

    Returns:
        Nothing where no text is left.
    """
    answers: dict[str, set[str]] = {}
    for row in (row for probe in forgotten for row in probe.examples):
        known = answers.setdefault((row.subject or row.prompt).casefold(), set())
        known.update(answer.casefold() for answer in row.accepted)

    def states_it(row: Example) -> bool:
        text = f"{row.subject or ''} {row.context} {row.prompt} {row.answer}".casefold()
        return any(of in text and any(answer in text for answer in known) for of, known in answers.items())

    taught = [
        replace(probe, examples=[row for row in probe.examples if row.answer and not states_it(row)]) for probe in texts
    ]
    taught = [probe for probe in taught if probe.examples]
    return Lesson(taught, forgotten) if taught else None


def recovery(
    model: ScoredModel, lesson: Lesson, asking: Asking, training: FineTuning, seed: int, caller: str
) -> dict[RowKey, dict[int, dict[str, Value]]]:
    """Teach a copy, and ask it at some steps.

    The same arguments give the same numbers, whatever the random generators; the model stays as it is.

    Args:
        model: The model that is attacked.
        lesson: What the copy is taught and asked.
        asking: How it is asked.
        training: How it is taught.
        seed: Of the order in which it is taught.
        caller: Who attacks, for errors.

    Returns:
        What `knowledge` says of each row that is asked, by optimizer step.

    Raises:
        MisconfigurationError: The weights are rounded or lie in parts on several processes, or `max_tokens` cuts away
            every answer that is taught.
    """
    found: dict[RowKey, dict[int, dict[str, Value]]] = {}
    device = model.adapter.device
    # Trainer.test runs in inference mode, and a run in bf16 under autocast; the copy is trained in float32 all the same
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        counted("relearning", training.measure_at[-1], "steps") as advance,
    ):
        network = _trainable_copy(model.adapter.network, caller)
        copied = replace(model.adapter, network=network)
        rows = _encoded(lesson.taught, model, caller)
        optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=0.0)
        for step, places in enumerate(_order(len(rows), training, seed)):
            if step in training.measure_at:
                scored = ScoredModel(copied, model.token_budget, model.max_tokens)  # a new one: the weights have moved
                for probe in lesson.asked:
                    for index, values in knowledge(scored, probe, asking).items():
                        found.setdefault((probe.name, index), {})[step] = values
            if step < training.measure_at[-1]:
                check_time()
                batch = collate([rows[place] for place in places], model.adapter.tokenizer.pad_token_id or 0)
                optimizer.zero_grad()
                (-label_predictions(network, batch.to(device)).log_probs.mean()).backward()
                optimizer.step()
                advance(1)
    return found


def _trainable_copy(network: nn.Module, caller: str) -> nn.Module:
    if any(not parameter.is_floating_point() for parameter in network.parameters()):
        raise MisconfigurationError(
            f"{caller} trains every weight of a copy, and some weights of the network are rounded to integers; attack "
            f"the exported model, or load it without quantization"
        )
    copied = throw_away_copy(network, caller).float()
    return copied.requires_grad_(True)


def _encoded(probes: Sequence[Probe], model: ScoredModel, caller: str) -> list[EncodedExample]:
    rows = [
        row
        for probe in probes
        for row in encode_labelled(probe.examples, model.adapter.tokenizer, probe.template, model.max_tokens)
    ]
    if not rows:
        raise MisconfigurationError(
            f"{caller}: max_tokens={model.max_tokens} cuts away every answer that a copy would be taught; raise it"
        )
    return rows


def _order(rows: int, training: FineTuning, seed: int) -> Iterator[list[int]]:
    """The rows of each step, one pass over all of them after the other; once more than there are steps."""
    rng, waiting, size = Random(seed), list[int](), min(training.batch_size, rows)
    for _ in range(training.measure_at[-1] + 1):
        if len(waiting) < size:
            waiting += rng.sample(range(rows), rows)
        yield waiting[:size]
        del waiting[:size]


def gain(curve: Mapping[int, float]) -> float:
    """How much higher a curve ends than it begins."""
    return curve[max(curve)] - curve[min(curve)]


def area(curve: Mapping[int, float]) -> float:
    """The mean gain over a curve's first point: its area by the trapezoidal rule over the steps, by their number.

    Args:
        curve: At least two values by optimizer step.
    """
    steps = sorted(curve)
    gains = np.array([curve[step] - curve[steps[0]] for step in steps])
    return float(np.trapezoid(gains, steps) / (steps[-1] - steps[0]))


def steps_to_half(curve: Mapping[int, float], full: float) -> float | None:
    """The optimizer steps after which half of what was lost is back.

    Args:
        curve: Values by optimizer step; between them lie straight lines.
        full: The value where all is back.

    Returns:
        Nothing where it never is, and where nothing was lost.
    """
    steps = sorted(curve)
    half = (curve[steps[0]] + full) / 2
    if curve[steps[0]] >= full:
        return None
    for left, right in pairwise(steps):
        if curve[right] >= half:
            return left + (right - left) * (half - curve[left]) / (curve[right] - curve[left])
    return None


def row_values(source: str, steps: Mapping[int, Mapping[str, Value]]) -> dict[str, Value]:
    """A row's curves as flat values: `SOURCE_SERIES_STEP`, and each one's `SOURCE_SERIES_gain` and `_area`.

    Args:
        source: What the copy was taught.
        steps: What `knowledge` says of the row, by optimizer step; `SOURCE_answer` is the last answer.
    """
    values: dict[str, Value] = {}
    for series in SERIES:
        curve = {step: float(known[series]) for step, known in steps.items() if series in known}
        values |= {f"{source}_{series}_{step}": value for step, value in curve.items()}
        if len(curve) == len(steps):
            values |= {f"{source}_{series}_gain": gain(curve), f"{source}_{series}_area": area(curve)}
    last = steps[max(steps)]
    return values | ({f"{source}_answer": last["answer"]} if "answer" in last else {})
