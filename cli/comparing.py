"""The end of `restor`: tables on the screen, the CSV, the plot, the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soul_lightning.cli.corruptions import branches
from soul_lightning.cli.stage_repairs import repair_baselines, repair_record, repair_sentences, shown_names
from soul_lightning.cli.stages import RestorConfig
from soul_lightning.cli.terminal import output_console
from soul_lightning.metrics.bleu import Scores, restoration_bleu
from soul_lightning.metrics.restoration import RestorationComparison, compare_restoration
from soul_lightning.reports.figures import restoration_figure, save_figure
from soul_lightning.reports.tables import (
    Record,
    restoration_records,
    restoration_sentences,
    restoration_table,
    write_records_csv,
)
from soul_lightning.scoring.answers import AnswerRow

CSV_NAME = "comparison.csv"
FIGURE_NAME = "comparison.png"
FIGURES = "comparison*.png"
"""Those of further corruptions too."""


def write_comparison(folder: Path, rows: Mapping[str, Sequence[AnswerRow]], config: RestorConfig) -> dict[str, Any]:
    """Compare the stages, corruption by corruption; show the tables, write CSV and plots.

    Args:
        folder: Where the files go.
        rows: The answers of each stage over all seeds.
        config: Which stages are clean, corrupted and the baseline.

    Returns:
        Flat metric names and numbers: `npo/accuracy_corrupted`, `known/npo/…`, `npo/bleu_corrupted` where BLEU is asked
        for. The names of repaired stages say so, and `repaired` says what each is compared with.
    """
    numbers: dict[str, Any] = {}
    records: dict[str, Record] = {}
    repaired: dict[str, Any] = {}
    for branch in branches(config):
        of = f", {branch.corrupted}" if config.further else ""
        figure = FIGURE_NAME if branch.corrupted == config.corrupted else f"comparison-{branch.corrupted}.png"
        own = {stage.name: rows[stage.name] for stage in branch.stages}
        found, lines = _write_branch(folder / figure, own, branch, of)
        numbers |= found
        records |= {model: line for model, line in lines.items() if model not in records}  # a clean model of several
        repaired |= repair_record(branch)
    columns = dict.fromkeys(name for record in records.values() for name in record)
    write_records_csv(folder / CSV_NAME, [dict.fromkeys(columns) | record for record in records.values()])
    return numbers | ({"repaired": repaired} if repaired else {})


def _write_branch(
    figure: Path, rows: Mapping[str, Sequence[AnswerRow]], config: RestorConfig, of: str
) -> tuple[dict[str, Any], dict[str, Record]]:
    """What comes of one corruption: its tables, sentences and figure; its numbers, and its records by model."""
    comparison, *parts = _compared(rows, config)
    records = {str(record["model"]): record for part in parts for record in restoration_records(part)}
    bleu = _bleu(rows, config)
    save_figure(restoration_figure(comparison), figure)
    console = output_console()
    console.print(restoration_table(comparison, f"All facts{of}"))
    numbers = _numbers(parts)
    known = known_facts(rows, config.clean)
    if known is None:
        console.print("The clean model knew none of the corrupted facts.")
    else:
        on_known, *known_parts = _compared(known, config)
        if on_known.facts < comparison.facts:
            console.print(restoration_table(on_known, f"Facts that the clean model knew{of}"))
        numbers |= {f"known/{name}": value for name, value in _numbers(known_parts).items()}
    sentences = [sentence for part in parts for sentence in restoration_sentences(part)]
    for sentence in (*dict.fromkeys(sentences), *repair_sentences(config), *map(_bleu_sentence, bleu.items())):
        console.print(sentence, markup=False, highlight=False)
    numbers |= {f"{model}/{name}": value for model, scores in bleu.items() for name, value in scores.items()}
    return numbers, {model: {**records[model], **bleu.get(model, {})} for model in comparison.scores}


def _bleu(rows: Mapping[str, Sequence[AnswerRow]], config: RestorConfig) -> dict[str, Scores]:
    """BLEU of each model by its name in the table, where it is asked for."""
    if not config.bleu:
        return {}
    names = shown_names(config)
    answers = {names[name]: own for name, own in rows.items()}
    return restoration_bleu(answers, clean=names[config.clean], corrupted=names[config.corrupted])


def _bleu_sentence(scored: tuple[str, Scores]) -> str:
    model, scores = scored
    numbers = {
        "corrupted": (scores["bleu_corrupted"], ".1f"),
        "control": (scores["bleu_control"], ".1f"),
        "restoration": (scores["bleu_restoration"], ".2f"),
    }
    parts = [f"{name} {value:{digits}}" for name, (value, digits) in numbers.items() if value is not None]
    return f"BLEU of {model}: {', '.join(parts)}."


def _compared(rows: Mapping[str, Sequence[AnswerRow]], config: RestorConfig) -> list[RestorationComparison]:
    """All models side by side, then the same in parts, each with a baseline of its own.

    Repaired models are compared with the repaired baseline: beside the plain one, a difference would count what the
    repair taught them as the unlearning's.
    """
    names = shown_names(config)
    answers = {names[name]: own for name, own in rows.items()}
    repaired = repair_baselines(config)

    def compare(baseline: str | None) -> RestorationComparison:
        return compare_restoration(
            answers,
            clean=names[config.clean],
            corrupted=names[config.corrupted],
            baseline=names[baseline] if baseline is not None else None,
        )

    def part(of: RestorationComparison, stages: Sequence[str]) -> RestorationComparison:
        kept = [names[name] for name in stages]
        return replace(
            of,
            scores={model: own for model, own in of.scores.items() if model in kept},
            differences={model: own for model, own in of.differences.items() if model in kept},
        )

    everything = compare(config.baseline)
    parts = [part(everything, [name for name in rows if name not in repaired])]
    for baseline in dict.fromkeys(repaired.values()):
        parts.append(part(compare(baseline), [name for name, own in repaired.items() if own == baseline]))
    return [everything, *parts]


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


def _numbers(parts: Sequence[RestorationComparison]) -> dict[str, Any]:
    return {
        f"{record['model']}/{name}": value
        for part in parts
        for record in restoration_records(part)
        for name, value in record.items()
        if name != "model"
    }
