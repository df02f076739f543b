"""The restoration comparison as a table in the terminal, as CSV and in words; answers before and after."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from random import Random

from rich.table import Table
from rich.text import Text

from soul_lightning.files import replaced_when_written
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.restoration import RestorationComparison
from soul_lightning.scoring.answers import AnswerRow

Record = dict[str, str | float | None]
REPAIRED = " (repaired)"
"""Ends the name of a model that was fine-tuned once more after unlearning, so that it can answer again."""


def restoration_table(comparison: RestorationComparison, title: str = "Restoration") -> Table:
    """One row a model: true and false answers about corrupted people, control people, restoration; 80 columns wide.

    Args:
        comparison: The models.
        title: Stands above the table.
    """
    people = f"{comparison.facts} facts of {comparison.entities} corrupted people"
    control = f"{comparison.control_facts} control facts" if comparison.control_facts else "no control facts"
    runs = f", {comparison.seeds} runs" if comparison.seeds > 1 else ""
    caption = f"{people}, {control}{runs}; {100 * comparison.confidence:g} % intervals"
    table = Table(title=title, caption=caption, title_justify="left", width=78)
    table.add_column("model", overflow="fold", no_wrap=True, max_width=18)
    table.add_column("true", justify="right")
    table.add_column("false", justify="right")
    table.add_column("control", justify="right")
    table.add_column("restoration", justify="right", no_wrap=True)
    for model, scores in comparison.scores.items():
        table.add_row(
            # A name may hold brackets, which are no markup, and be too long for its column, which its mark must not be.
            Text(f"{model.removesuffix(REPAIRED)}\n{REPAIRED.strip()}" if model.endswith(REPAIRED) else model),
            f"{scores.accuracy_corrupted.value:.2f}",
            f"{scores.false_share.value:.2f}",
            f"{scores.accuracy_control.value:.2f}" if scores.accuracy_control else "–",
            Text(str(scores.restoration)) if scores.restoration else "–",
        )
    return table


def restoration_records(comparison: RestorationComparison) -> list[Record]:
    """One flat record a model, with every interval and the differences to the baseline."""
    records = []
    for model, scores in comparison.scores.items():
        record: Record = {"model": model}
        numbers = {
            "accuracy_corrupted": scores.accuracy_corrupted,
            "false_share": scores.false_share,
            "accuracy_control": scores.accuracy_control,
            "restoration": scores.restoration,
            "restoration_known": scores.restoration_known,
        }
        difference = comparison.differences.get(model)
        if comparison.baseline is not None:
            numbers |= {
                "false_share_minus_baseline": difference.false_share if difference else None,
                "restoration_minus_baseline": difference.restoration if difference else None,
                "accuracy_control_minus_baseline": difference.accuracy_control if difference else None,
            }
        for name, interval in numbers.items():
            ends = astuple(interval) if interval is not None else (None, None, None)
            record |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        if comparison.baseline is not None:
            record["baseline"] = comparison.baseline
        records.append(record)
    return records


def write_restoration_csv(path: Path, comparison: RestorationComparison) -> None:
    """Write `restoration_records` as CSV, empty where a number has no meaning; the file is whole or not there."""
    write_records_csv(path, restoration_records(comparison))


def write_records_csv(path: Path, records: Sequence[Record]) -> None:
    """Write flat records with the same keys as CSV; the file is whole or not there."""
    with replaced_when_written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def restoration_sentences(comparison: RestorationComparison) -> list[str]:
    """What the table does not show: each model against the baseline, and why there is no restoration."""
    sentences = [comparison.note] if comparison.note else []
    for model, difference in comparison.differences.items():
        if model in (comparison.clean, comparison.corrupted):
            continue
        parts = [f"false answers {signed(difference.false_share)}"]
        if difference.restoration is not None:
            parts.append(f"restoration {signed(difference.restoration)}")
        if difference.accuracy_control is not None:
            parts.append(f"control {signed(difference.accuracy_control)}")
        sentences.append(f"{model} minus {comparison.baseline}: {', '.join(parts)}.")
    return sentences


def signed(interval: Interval) -> str:
    """A difference with its interval: `+0.12 [-0.01, +0.25]`."""
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """What two models answer to one question.

    Attributes:
        about: The set that the question is of.
        question: The question.
        truth: The main true answer.
        before: What the model before training wrote.
        after: What it wrote last.
    """

    about: str
    question: str
    truth: str
    before: str
    after: str


ANSWER_COLUMNS = tuple(field.name for field in fields(AnswerPair))


def sampled_answers(pairs: Sequence[AnswerPair], each: int = 8, seed: int = 0) -> list[tuple[str, ...]]:
    """The cells of a table of answers before and after: of each set so many questions, drawn at random, in their order.

    Args:
        pairs: All that were asked.
        each: Most questions of a set.
        seed: Seed of the draw.
    """
    rows: list[tuple[str, ...]] = []
    for about in dict.fromkeys(pair.about for pair in pairs):
        own = [pair for pair in pairs if pair.about == about]
        places = sorted(Random(seed).sample(range(len(own)), min(each, len(own))))
        rows += [astuple(own[place]) for place in places]
    return rows


def judged_pairs(before: Sequence[AnswerRow], after: Sequence[AnswerRow]) -> list[AnswerPair]:
    """The questions that both models answered, each answer with its verdict."""
    later = {row.key: row for row in after}
    return [
        AnswerPair(row.role, row.prompt, row.truth, _judged(row), _judged(later[row.key]))
        for row in before
        if row.key in later
    ]


def _judged(row: AnswerRow) -> str:
    return f"{row.answer} ({'true' if row.true else 'false' if row.false else 'other'})"
