"""What a restoration measurement leaves behind: rows, a table, CSV, figures, sample answers in the loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console

from soul_lightning.metrics.restoration import RestorationComparison
from soul_lightning.reports.figures import relation_figure, restoration_figure, save_figure
from soul_lightning.reports.loggers import log_figure, log_table
from soul_lightning.reports.tables import (
    ANSWER_COLUMNS,
    judged_pairs,
    restoration_sentences,
    restoration_table,
    sampled_answers,
    write_restoration_csv,
)
from soul_lightning.scoring.answers import AnswerRow, write_rows


@dataclass(frozen=True)
class RestorationReport:
    """Writes to one run's folder; exists on the first process only.

    Attributes:
        folder: The run's folder.
        name: Prefix of the files.
    """

    folder: Path
    name: str

    def write_rows(self, rows: Mapping[str, Sequence[AnswerRow]]) -> None:
        """Write each model's answers to `rows/NAME_MODEL.jsonl`."""
        for model, answers in rows.items():
            write_rows(self.folder / "rows" / f"{self.name}_{model}.jsonl", answers)

    def finish(
        self,
        comparison: RestorationComparison,
        before: Sequence[AnswerRow],
        after: Sequence[AnswerRow],
        trainer: Trainer,
        seed: int,
    ) -> None:
        """Print the table; write `rows/NAME.csv` and `NAME.png`; show figures and answers in the loggers.

        Args:
            comparison: All models.
            before: Answers of the corrupted model.
            after: Answers of the unlearned model.
            trainer: Has the loggers and the step.
            seed: Of the draw of answers that are shown.
        """
        console = Console()
        console.print(restoration_table(comparison))
        for sentence in restoration_sentences(comparison):
            console.print(sentence, markup=False, highlight=False)
        write_restoration_csv(self.folder / "rows" / f"{self.name}.csv", comparison)
        figure = restoration_figure(comparison)
        save_figure(figure, self.folder / f"{self.name}.png")
        log_figure(trainer, f"{self.name}/by_model", figure)
        by_relation = relation_figure(comparison)
        if by_relation is not None:
            log_figure(trainer, f"{self.name}/by_relation", by_relation)
        log_table(
            trainer, f"{self.name}/answers", ANSWER_COLUMNS, sampled_answers(judged_pairs(before, after), seed=seed)
        )
