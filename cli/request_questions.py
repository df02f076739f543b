"""Which questions tell what became of each request, and of what must stay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from soul_lightning.attacks.forgotten import questions_of
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Probe
from soul_lightning.reports.request_states import KEPT_ROLES


def request_questions(owner: str, probes: Sequence[Probe]) -> list[Probe]:
    """Questions about each request apart, and those about what must stay.

    Where facts were corrupted, the questions about these: they tell false, true and other answers apart. Else those of
    the role `forget`, in the rows' own words. Texts whose rows have prompts are asked where there is no question.

    Args:
        owner: Whose probes they are, for the error.
        probes: Those of a DataModule that is cut into requests.

    Raises:
        MisconfigurationError: There are none about the requests.
    """
    parts = [probe for probe in probes if _is_part(probe)]
    whole = [probe for probe in probes if not _is_part(probe)]
    asked = questions_of(whole, "corrupted") or questions_of(whole, "forget")
    names = {probe.name for probe in asked}
    found = [replace(part, kind="question") for part in parts if part.rows_of in names]
    if not found:
        there = ", ".join(sorted({f"{probe.name} ({probe.kind})" for probe in probes})) or "none"
        raise MisconfigurationError(
            f"{owner} has no questions about its requests (there are: {there}), so that nothing tells what is "
            f"forgotten; take a DataModule whose forget rows have prompts"
        )
    return [*found, *(probe for role in KEPT_ROLES for probe in questions_of(whole, role))]


def _is_part(probe: Probe) -> bool:
    return bool(probe.rows_of) and re.fullmatch(rf"{re.escape(probe.rows_of)}_\d+", probe.name) is not None
