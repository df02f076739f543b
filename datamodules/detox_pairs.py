"""Pairs of a safe and an unsafe answer to one prompt, in the form of PKU-SafeRLHF, and prompts with toxicity scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.records.table import RecordTable

logger = logging.getLogger(__name__)

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class PairColumns:
    """Where the answers of a row stand.

    Attributes:
        prompt: Column of the prompts.
        responses: Columns of the two answers, in any order.
        are_safe: Columns that say whether each of the two is safe.
        safe: Column of the safe answer, in files that have it apart (often `chosen`); then `unsafe` is needed too, and
            `responses` and `are_safe` are not read.
        unsafe: Column of the unsafe answer (often `rejected`).
    """

    prompt: str = "prompt"
    responses: tuple[str, str] = ("response_0", "response_1")
    are_safe: tuple[str, str] = ("is_response_0_safe", "is_response_1_safe")
    safe: str | None = None
    unsafe: str | None = None

    def __post_init__(self) -> None:
        """Refuse one of the two without the other."""
        if (self.safe is None) != (self.unsafe is None):
            raise MisconfigurationError(
                f"columns: safe is {self.safe!r} and unsafe is {self.unsafe!r}; name both, or neither and use "
                f"responses and are_safe"
            )


@dataclass(frozen=True)
class AnswerPair:
    """A prompt, the answer to forget and the answer to prefer."""

    prompt: str
    unsafe: str
    safe: str


def read_pairs(source: RecordSource, columns: PairColumns) -> list[list[AnswerPair]]:
    """Every different pair, grouped by prompt (without regard to case and white space), in the order of the source.

    Rows whose two answers are both safe or both unsafe are left out.

    Raises:
        MisconfigurationError: The source cannot be read, lacks a column, or holds something unfit in it.
    """
    table = read_records(source, "pairs")
    pairs = _sorted_pairs(table, columns) if columns.safe is None else _ready_pairs(table, columns)
    if not pairs:
        raise MisconfigurationError(
            f"pairs: none of {len(table.rows)} rows of {table.name} has a safe and an unsafe answer; give other rows, "
            f"or name their columns"
        )
    groups: dict[str, list[AnswerPair]] = {}
    for pair in dict.fromkeys(pairs):
        groups.setdefault(" ".join(pair.prompt.casefold().split()), []).append(pair)
    return list(groups.values())


def _sorted_pairs(table: RecordTable, columns: PairColumns) -> list[AnswerPair]:
    flags = list(zip(*(_flags(table, column) for column in columns.are_safe), strict=True))
    places = [place for place, (first, second) in enumerate(flags) if first != second]
    if len(places) < len(flags):
        logger.info(
            "%d of %d pairs are both safe or both unsafe and are left out", len(flags) - len(places), len(flags)
        )
    table = _rows_at(table, places)
    prompts, firsts, seconds = (table.texts(column) for column in (columns.prompt, *columns.responses))
    return [
        AnswerPair(prompt, unsafe=second, safe=first) if flags[place][0] else AnswerPair(prompt, first, second)
        for place, prompt, first, second in zip(places, prompts, firsts, seconds, strict=True)
    ]


def _ready_pairs(table: RecordTable, columns: PairColumns) -> list[AnswerPair]:
    named = (columns.prompt, str(columns.unsafe), str(columns.safe))
    return [AnswerPair(*texts) for texts in zip(*(table.texts(column) for column in named), strict=True)]


def _flags(table: RecordTable, column: str) -> list[bool]:
    values = table.values(column)
    found = [_TRUTH.get(str(value).strip().lower()) for value in values]
    for number, value, flag in zip(table.numbers, values, found, strict=True):
        if flag is None:
            raise MisconfigurationError(
                f"{table.unit} {number} of {table.name} holds {value!r:.40} in the column {column!r}, not true or "
                f"false; mend it, or leave the row out"
            )
    return [bool(flag) for flag in found]


def read_toxicity_prompts(
    source: RecordSource, prompt_column: str, score_column: str, least_toxicity: float | None
) -> list[str]:
    """The different prompts of rows in the form of RealToxicityPrompts, whose columns lie one in another.

    Args:
        source: The rows.
        prompt_column: Where a prompt stands; `prompt.text` is the field `text` of the column `prompt`.
        score_column: Where its toxicity stands, 0 to 1; read only with `least_toxicity`.
        least_toxicity: Leave out prompts that are less toxic, or have no score; all are taken if none is given.

    Raises:
        MisconfigurationError: The source cannot be read, lacks a column, or no prompt is left.
    """
    role = "toxicity_prompts"
    table = read_records(source, role).flat()
    if least_toxicity is not None:
        scores = _scores(table, score_column)
        places = [place for place, score in enumerate(scores) if score is not None and score >= least_toxicity]
        if not places:
            raise MisconfigurationError(
                f"{role}: none of {len(scores)} rows of {table.name} has a toxicity of {least_toxicity} or more; lower "
                f"least_toxicity"
            )
        table = _rows_at(table, places)
    if not table.rows:
        raise MisconfigurationError(f"{role}: {table.name} has no rows; give a file with at least one")
    return list(dict.fromkeys(table.texts(prompt_column)))


def _scores(table: RecordTable, column: str) -> list[float | None]:
    scores: list[float | None] = []
    for number, value in zip(table.numbers, table.values(column), strict=True):
        try:
            score = float(value) if value not in (None, "") else math.nan
        except (TypeError, ValueError) as error:
            raise MisconfigurationError(
                f"{table.unit} {number} of {table.name} holds {value!r:.40} in the column {column!r}, not a number; "
                f"mend it, or leave the row out"
            ) from error
        scores.append(None if math.isnan(score) else score)
    return scores


def _rows_at(table: RecordTable, places: Sequence[int]) -> RecordTable:
    return replace(table, rows=[table.rows[place] for place in places], numbers=[table.numbers[p] for p in places])
