"""Multiple choice without generation: is the right option the likeliest one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric


def multiple_choice_hits(
    nlls: Sequence[Sequence[float]], tokens: Sequence[Sequence[int]], gold: Sequence[int]
) -> NDArray[np.bool_]:
    """Whether the option with the lowest NLL/|y| is the right one, for each question.

    By length, or the shortest option would often win (Brown et al. 2020); by tokens, where some harnesses divide by
    characters. Of options that tie the first one is chosen, so that a model that prefers none gets the questions whose
    right option stands first: the options should be shuffled.

    Args:
        nlls: [rows, options] NLL of each option, summed over its labelled tokens, in nats; rows may have different
            numbers of options.
        tokens: [rows, options] labelled tokens of each option, at least 1.
        gold: [rows] the place of the right option, from 0.

    Returns:
        [rows] booleans.

    Raises:
        MisconfigurationError: The lengths do not match, a row has fewer than two options, an option has no token or an
            NLL that is not finite, or a right option is none of those given.

    Example:
        >>> multiple_choice_hits([[4.0, 3.0], [4.0, 3.0]], [[4, 1], [1, 1]], [0, 0]).tolist()
        [True, False]
    """
    if not len(nlls) == len(tokens) == len(gold):
        raise MisconfigurationError(
            f"multiple choice needs NLLs, token counts and a right option for each question, got {len(nlls)}, "
            f"{len(tokens)} and {len(gold)} of them; give the same questions to each"
        )
    rows = zip(nlls, tokens, gold, strict=True)
    return np.array([_choice(place, *row) == row[2] for place, row in enumerate(rows)], dtype=np.bool_)


class MultipleChoiceAccuracy(RowMetric):
    """The share of questions that are `multiple_choice_hits`, of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = MultipleChoiceAccuracy()
        >>> metric.update(nlls=[[4.0, 3.0], [4.0, 3.0]], tokens=[[4, 1], [1, 1]], gold=[0, 0])
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("hits", **settings)

    def update(
        self,
        nlls: Sequence[Sequence[float] | Tensor] | Tensor,
        tokens: Sequence[Sequence[int] | Tensor] | Tensor,
        gold: Sequence[int] | Tensor,
    ) -> None:
        """Add questions.

        Args:
            nlls: [rows, options] NLL of each option, summed over its labelled tokens, in nats.
            tokens: [rows, options] labelled tokens of each option, at least 1.
            gold: [rows] the place of the right option, from 0.

        Raises:
            MisconfigurationError: The lengths do not match, a row has fewer than two options, an option has no token or
                an NLL that is not finite, or a right option is none of those given.
        """
        costs = [self._as_tensor(row).tolist() for row in nlls]
        counts = [[int(count) for count in row] for row in tokens]
        self.append(hits=multiple_choice_hits(costs, counts, [int(place) for place in gold]))

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no question.
        """
        return self._mean("hits")


def _choice(row: int, nlls: Sequence[float], tokens: Sequence[int], gold: int) -> int:
    costs, counts = np.asarray(nlls, dtype=np.float64), np.asarray(tokens)
    if len(costs) < 2 or len(costs) != len(counts) or counts.min() < 1 or not np.isfinite(costs).all():
        raise MisconfigurationError(
            f"a multiple-choice question needs two or more options, each with a finite NLL and a labelled token, and "
            f"question {row} has the NLLs {costs[:5].tolist()} of {counts[:5].tolist()} tokens; leave it out"
        )
    if not 0 <= gold < len(costs):
        raise MisconfigurationError(
            f"question {row} has {len(costs)} options and option {gold} is said to be right; count them from 0"
        )
    return int((costs / counts).argmin())
