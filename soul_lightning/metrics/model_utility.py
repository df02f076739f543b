"""Model utility: nine scores of what an unlearned model must keep, in one number (TOFU, Maini et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.truth_ratio import utility_truth_ratio

PARTS = 9
"""{retain, real authors, world facts} × {probability, ROUGE-L recall, truth-ratio utility}."""
Group = Literal["retain", "real_authors", "world_facts"]
"""What an unlearned model must keep: the rest of the task, what is like it, and what everyone knows."""
SCORES = ("probability", "rouge_recall", "truth_ratio")


def model_utility(parts: Sequence[float]) -> float:
    """The harmonic mean of nine scores: one that is 0 makes it 0, whatever the others are.

    Args:
        parts: [9] probability, ROUGE-L recall and `utility_truth_ratio` of the retain set, of real authors and of world
            facts, in any order; each at least 0.

    Returns:
        Between the least and the greatest of them.

    Raises:
        MisconfigurationError: There are not nine of them, or one is negative or not finite.

    Example:
        >>> model_utility([0.5] * 9), model_utility([0.9] * 8 + [0.0])
        (0.5, 0.0)
    """
    values = np.asarray(parts, dtype=np.float64)
    if len(values) != PARTS:
        raise MisconfigurationError(
            f"model utility is the mean of {PARTS} scores, got {len(values)}; measure probability, ROUGE-L recall and "
            f"truth ratio on the retain set, on real authors and on world facts"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise MisconfigurationError(
            f"the scores of model utility must be finite and at least 0, got {values.tolist()}; "
            f"measure each on rows that the model can score"
        )
    least = values.min()
    # In units of the least score: the reciprocal of a very small one would overflow.
    return float(least * len(values) / (least / values).sum()) if least > 0 else 0.0


class ModelUtility(RowMetric):
    """`model_utility` of all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = ModelUtility()
        >>> for group in ("retain", "real_authors", "world_facts"):
        ...     metric.update(group, probabilities=[0.2, 0.8], rouge_recalls=[0.5], truth_ratios=[0.5])
        >>> metric.compute().item()
        0.5
        >>> metric.parts()["retain_probability"].item()
        0.5
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(*(f"{group}_{score}" for group in get_args(Group) for score in SCORES), **settings)

    def update(
        self,
        group: Group,
        probabilities: Sequence[float] | Tensor = (),
        rouge_recalls: Sequence[float] | Tensor = (),
        truth_ratios: Sequence[float] | Tensor = (),
    ) -> None:
        """Add rows of one group; the three scores need not be of the same rows, nor come in the same call.

        Args:
            group: What the rows are of: `retain`, `real_authors` or `world_facts`.
            probabilities: [rows] exp(−NLL/|y|) of the answers; of real authors and world facts `option_probability`.
            rouge_recalls: [rows] ROUGE-L recall of the generated answers.
            truth_ratios: [rows] R, see `soul_lightning.metrics.truth_ratio`.

        Raises:
            MisconfigurationError: The group is unknown.
        """
        if group not in get_args(Group):
            raise MisconfigurationError(f"group must be one of {', '.join(map(repr, get_args(Group)))}, got {group!r}")
        for score, rows in zip(SCORES, (probabilities, rouge_recalls, truth_ratios), strict=True):
            self.append(**{f"{group}_{score}": rows})

    def compute(self) -> Tensor:
        """[] float64: the harmonic mean of the nine `parts`.

        Raises:
            MisconfigurationError: A part has no rows, or a score is negative or not finite.
        """
        return self._number(model_utility(list(self._parts().values())))

    def parts(self) -> dict[str, Tensor]:
        """The nine scores by name, as `retain_probability`, [] float64 each; every process must call it.

        Raises:
            MisconfigurationError: A part has no rows.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return {name: self._number(value) for name, value in self._parts().items()}

    def _parts(self) -> dict[str, float]:
        rows = {name: self.rows(name) for name in self.columns}
        missing = [name for name, own in rows.items() if not len(own)]
        if missing:
            raise MisconfigurationError(
                f"ModelUtility has no rows of {', '.join(missing)}; update it with all three scores of each group"
            )
        return {
            name: utility_truth_ratio(own) if name.endswith("truth_ratio") else float(own.mean())
            for name, own in rows.items()
        }
