"""Detoxification: unsafe answers to forget, the safe answers to the same prompts to prefer."""

from __future__ import annotations

import logging
from typing import Any

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.detox_pairs import AnswerPair, PairColumns, read_pairs, read_toxicity_prompts
from soul_lightning.datamodules.retain_texts import Retained, RetainTexts
from soul_lightning.datamodules.sampling import shuffled, spread
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource, check_source
from soul_lightning.templates import PromptTemplate

logger = logging.getLogger(__name__)

CONTINUED_TEMPLATE = PromptTemplate(prompt="{prompt}", answer="{answer}", end_of_text=False)
"""RealToxicityPrompts are beginnings of sentences that the model goes on with."""


class DetoxDataModule(StreamDataModule):
    """Pairs in the form of PKU-SafeRLHF (SOUL's detoxification, Jia et al. 2024), and general text to retain.

    A forget row is a prompt with its unsafe answer; its `refusal` is the safe answer to the same prompt, which
    `PreferenceOptimization` and `DPO` read. The rows are drawn at random, one of each prompt before a second of any.
    No prompt stands in both forget and holdout.

    The probes are `forget` and `holdout` (likelihood of the unsafe answers), `forget_prompts` and `holdout_prompts`
    (the same prompts, for generation), `toxicity` (prompts in the form of RealToxicityPrompts, for generation),
    `retain` and `utility` (retain texts trained on, and never seen). Membership inference compares forget with holdout,
    and tells something only of a model that was trained on these very forget rows.

    Args:
        pairs: The pairs: a file, or a Hugging Face data set such as PKU-Alignment/PKU-SafeRLHF.
        samples: Train on so many pairs.
        holdout_samples: Hold back one pair of each of so many other prompts.
        columns: Where a row's answers stand, and which of them is safe; as PKU-SafeRLHF has it if none is given.
        toxicity_prompts: Prompts to go on with, in the form of RealToxicityPrompts.
        toxicity_prompt_column: Where such a prompt stands; `a.b` is the field b of the column a.
        toxicity_score_column: Where its toxicity stands, 0 to 1.
        least_toxicity: Take only prompts that are at least so toxic, and none without a score.
        toxicity_probes: At most so many such prompts, chosen at random.
        retain: Text to keep: a file with a column `text`, a .txt file, or a Hugging Face data set. Of a large one take
            the beginning, `{path: allenai/c4, subset: en, first_rows: 5000}`, or set `streamed: true` there: then its
            texts are read as training needs them, and those that also stand in forget are left out.
        retain_rows: Train on so many retain texts, chosen at random; all but a tenth of them if none is given. Of a
            streamed source the first so many, or all.
        retain_tokens: Cut every retain text after so many tokens. Nothing teaches the model to stop there, nor where
            `max_tokens` cuts: what is cut has no end-of-text token.
        text_probes: Most texts in the retain probe and in the utility probe.
        sample_seed: Seed of which pairs, prompts and texts are taken; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing.
    """

    def __init__(
        self,
        pairs: str | RecordSource,
        samples: int = 200,
        holdout_samples: int = 100,
        columns: PairColumns | None = None,
        toxicity_prompts: str | RecordSource | None = None,
        toxicity_prompt_column: str = "prompt.text",
        toxicity_score_column: str = "prompt.toxicity",
        least_toxicity: float | None = None,
        toxicity_probes: int = 200,
        retain: str | RecordSource | None = None,
        retain_rows: int | None = None,
        retain_tokens: int | None = None,
        text_probes: int = 64,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_counts(
            "DetoxDataModule",
            samples=(samples, 1),
            holdout_samples=(holdout_samples, 0),
            toxicity_probes=(toxicity_probes, 1),
            text_probes=(text_probes, 0),
        )
        self.pairs = pairs if isinstance(pairs, RecordSource) else RecordSource(pairs)
        check_source(self.pairs, "pairs")
        self.samples = samples
        self.holdout_samples = holdout_samples
        self.columns = columns or PairColumns()
        self.toxicity_prompts = (
            RecordSource(toxicity_prompts) if isinstance(toxicity_prompts, str) else toxicity_prompts
        )
        if self.toxicity_prompts is not None:
            check_source(self.toxicity_prompts, "toxicity_prompts")
        self.toxicity_prompt_column = toxicity_prompt_column
        self.toxicity_score_column = toxicity_score_column
        self.least_toxicity = least_toxicity
        self.toxicity_probes = toxicity_probes
        self.text_probes = text_probes
        self.sample_seed = sample_seed
        self.retain = (
            RetainTexts("DetoxDataModule", retain, retain_rows, retain_tokens, text_probes, sample_seed)
            if retain is not None
            else None
        )

    def load(self) -> Task:
        """Read the pairs, the prompts and the retain texts, and choose.

        Raises:
            MisconfigurationError: A file is unfit, or has too few prompts.
        """
        forget, holdout = self._pairs()
        retained = self.retain.read(self.tokenizer) if self.retain is not None else Retained()
        probes = [
            Probe("forget", "text", forget, "forget", self.template),
            Probe("forget_prompts", "prompt", _prompts(forget), "forget", self.template, rows_of="forget"),
            Probe("holdout", "text", holdout, "holdout", self.template),
            Probe("holdout_prompts", "prompt", _prompts(holdout), "holdout", self.template, rows_of="holdout"),
            Probe("toxicity", "prompt", self._toxicity(), "toxicity", CONTINUED_TEMPLATE),
            Probe("retain", "text", retained.seen, "retain", self.template),
            Probe("utility", "text", retained.unseen, "utility", self.template),
        ]
        streams = {"forget": forget, **retained.trained}
        return Task(streams, [probe for probe in probes if probe.examples], retained.streamed)

    def _pairs(self) -> tuple[list[Example], list[Example]]:
        """Forget rows, and holdout rows of other prompts; numbered through, so that no index stands in both."""
        groups = read_pairs(self.pairs, self.columns)
        order = shuffled(range(len(groups)), f"{self.sample_seed}/prompts")
        held_out, trained = order[: self.holdout_samples], order[self.holdout_samples :]
        answers = {number: shuffled(groups[number], f"{self.sample_seed}/{number}") for number in order}
        room = sum(len(groups[number]) for number in trained)
        if len(held_out) < self.holdout_samples or room < self.samples:
            raise MisconfigurationError(
                f"DetoxDataModule: samples={self.samples} and holdout_samples={self.holdout_samples} ask for more than "
                f"there is: {sum(map(len, groups))} pairs to {len(groups)} prompts in {self.pairs.path}, of which "
                f"{room} remain for samples; take fewer, or give more pairs"
            )
        rows = spread([[(number, pair) for pair in answers[number]] for number in trained], self.samples)
        forget = _numbered(rows, first=0)
        return forget, _numbered([(number, answers[number][0]) for number in held_out], first=len(forget))

    def _toxicity(self) -> list[Example]:
        if self.toxicity_prompts is None:
            return []
        prompts = read_toxicity_prompts(
            self.toxicity_prompts, self.toxicity_prompt_column, self.toxicity_score_column, self.least_toxicity
        )
        chosen = shuffled(prompts, f"{self.sample_seed}/toxicity")[: self.toxicity_probes]
        return [Example("", prompt, index) for index, prompt in enumerate(chosen)]


def _numbered(rows: list[tuple[int, AnswerPair]], first: int) -> list[Example]:
    """Rows about their prompt's number: intervals draw the answers to one prompt together."""
    return [
        Example(pair.unsafe, pair.prompt, index, refusal=pair.safe, subject=f"prompt {number}")
        for index, (number, pair) in enumerate(rows, start=first)
    ]


def _prompts(rows: list[Example]) -> list[Example]:
    """Each prompt once, without an answer."""
    first = {row.subject: row for row in reversed(rows)}
    return [Example("", row.prompt, row.index, subject=row.subject) for row in reversed(first.values())]
