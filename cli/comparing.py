"""The end of `restor`: tables on the screen, the CSV, the plot, the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.stages import RestorConfig
from soul_lightning.cli.terminal import output_console
from soul_lightning.metrics.restoration import RestorationComparison, compare_restoration
from soul_lightning.reports.figures import restoration_figure, save_figure
from soul_lightning.reports.tables import (
    restoration_records,
    restoration_sentences,
    restoration_table,
    write_restoration_csv,
)
from soul_lightning.scoring.answers import AnswerRow

CSV_NAME = "comparison.csv"
FIGURE_NAME = "comparison.png"


def write_comparison(folder: Path, rows: Mapping[str, Sequence[AnswerRow]], config: RestorConfig) -> dict[str, Any]:
    """Compare the stages, show the tables, write CSV and plot.

    Args:
        folder: Where the files go.
        rows: The answers of each stage over all seeds.
        config: Which stages are clean, corrupted and the baseline.

    Returns:
        Flat metric names and numbers: `npo/accuracy_corrupted`, `known/npo/…`.
    """

    def compare(answers: Mapping[str, Sequence[AnswerRow]]) -> RestorationComparison:
        return compare_restoration(answers, clean=config.clean, corrupted=config.corrupted, baseline=config.baseline)

    comparison = compare(rows)
    write_restoration_csv(folder / CSV_NAME, comparison)
    save_figure(restoration_figure(comparison), folder / FIGURE_NAME)
    console = output_console()
    console.print(restoration_table(comparison, "All facts"))
    numbers = _numbers(comparison)
    known = known_facts(rows, config.clean)
    if known is None:
        console.print("The clean model knew none of the corrupted facts.")
    else:
        on_known = compare(known)
        if on_known.facts < comparison.facts:
            console.print(restoration_table(on_known, "Facts that the clean model knew"))
        numbers |= {f"known/{name}": value for name, value in _numbers(on_known).items()}
    for sentence in restoration_sentences(comparison):
        console.print(sentence, markup=False, highlight=False)
    return numbers


def known_facts(rows: Mapping[str, Sequence[AnswerRow]], clean: str) -> dict[str, list[AnswerRow]] | None:
    """The answers to the questions that the clean model answered truly, control questions as they are.

    Args:
        rows: The answers of each model to the same questions.
        clean: The clean model's name.

    Returns:
        Answers by model; none where the clean model knew nothing.
    """
    known = {row.key for row in rows[clean] if row.true and row.role == "corrupted"}
    if not known:
        return None
    return {
        model: [row for row in answers if row.role != "corrupted" or row.key in known]
        for model, answers in rows.items()
    }


def _numbers(comparison: RestorationComparison) -> dict[str, Any]:
    return {
        f"{record['model']}/{name}": value
        for record in restoration_records(comparison)
        for name, value in record.items()
        if name != "model"
    }
