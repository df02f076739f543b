"""RESTOR's repair step: a short fine-tune on instructions after unlearning; the paper takes LIMA (Zhou et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.sampling import shuffled
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource, check_source, read_records

CONVERSATIONS = "conversations"
"""Column of rows that are lists of turns, the user's first (LIMA on the hub)."""


class RepairDataModule(StreamDataModule):
    """Instructions with their answers, the first turn of each conversation, as one stream `repair`.

    Repair makes a model that gradient ascent has distorted answer again, and teaches it what the instructions say. A
    stage of `restor` that does it says `repair: true` and is reported as such.

    A file has the columns `instruction` and `output` and perhaps `input`, which goes below the instruction, and
    `history`, a list of earlier turns; or a column `conversations`, a list of turns. LIMA is for use without commerce
    and is not in this package.

    Args:
        instructions: A file, or the name of a Hugging Face data set.
        rows: Train on so many instructions, chosen at random; on all if none is given.
        text_probes: Most instructions in the text probe `repair`.
        sample_seed: Seed of which instructions are taken; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or the file is missing.
    """

    def __init__(
        self,
        instructions: str | RecordSource,
        rows: int | None = None,
        text_probes: int = 64,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_counts("RepairDataModule", rows=(rows, 1), text_probes=(text_probes, 0))
        self.instructions = instructions if isinstance(instructions, RecordSource) else RecordSource(instructions)
        check_source(self.instructions, "instructions")
        self.rows = rows
        self.text_probes = text_probes
        self.sample_seed = sample_seed

    def load(self) -> Task:
        """Read the instructions.

        Raises:
            MisconfigurationError: The file is unfit, or has too few different instructions.
        """
        pairs = list(dict.fromkeys(self._pairs()))
        if self.rows is not None and self.rows > len(pairs):
            raise MisconfigurationError(
                f"RepairDataModule: rows={self.rows}, and {self.instructions.path} has {len(pairs)} different "
                f"instructions; take fewer, or give more"
            )
        chosen = shuffled(pairs, f"{self.sample_seed}/repair")[: self.rows]
        examples = [Example(answer, prompt, index) for index, (prompt, answer) in enumerate(chosen)]
        probes = [Probe("repair", "text", examples[: self.text_probes], "utility", self.template)]
        return Task({"repair": examples}, [probe for probe in probes if probe.examples])

    def _pairs(self) -> list[tuple[str, str]]:
        """The first instruction and answer of each row."""
        table = read_records(self.instructions, "instructions")
        turns: Sequence[Any]
        if CONVERSATIONS in table.columns:
            turns = table.text_lists(CONVERSATIONS)
        else:
            instructions, answers = table.texts("instruction"), table.texts("output")
            below = table.optional_texts("input" if "input" in table.columns else None)
            before = table.values("history") if "history" in table.columns else [None] * len(instructions)
            turns = [
                ("\n".join(filter(None, (instruction, text))), answer)
                if earlier is None or not len(earlier)
                else earlier[0]
                for instruction, text, answer, earlier in zip(instructions, below, answers, before, strict=True)
            ]
        return [
            self._first(each, f"{table.unit} {number} of {table.name}")
            for each, number in zip(turns, table.numbers, strict=True)
        ]

    def _first(self, turns: Sequence[Any], place: str) -> tuple[str, str]:
        prompt, answer = (*turns, None, None)[:2]
        if not (isinstance(prompt, str) and isinstance(answer, str) and prompt.strip() and answer.strip()):
            raise MisconfigurationError(
                f"RepairDataModule: {place} begins with no instruction and answer but with {turns!r:.60}; leave it out"
            )
        return prompt, answer
