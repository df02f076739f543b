"""Which questions ask for what a model must no longer know, and which for what it may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe

KEPT_ROLES = ("retain", "utility", "control")
"""Roles of what a model may know."""


def forgotten_probes(probes: Sequence[Probe], caller: str) -> list[Probe]:
    """Sets whose rows' own answers are what must be gone.

    Questions of the role `forget`, in their own words; where there are none, questions about `corrupted` facts turned
    round (the false answer is what was learned and must go, the true one counts as another); else the texts of the role
    `forget`.

    Args:
        probes: All that there are.
        caller: Who asks, for the error.

    Raises:
        MisconfigurationError: There is nothing to forget among them.
    """
    own_words = in_own_words(probe for probe in probes if probe.role == "forget")
    if own_words:
        return own_words
    lies = [turned_round(probe) for probe in probes if probe.role == "corrupted" and probe.kind == "question"]
    lies = [probe for probe in lies if probe.examples]
    texts = [probe for probe in probes if probe.role == "forget" and probe.kind == "text" and probe.examples]
    if not lies and not texts:
        there = ", ".join(sorted({f"{probe.role} ({probe.kind})" for probe in probes})) or "none"
        raise MisconfigurationError(
            f"{caller} needs questions or texts of the role forget, or questions of the role corrupted whose false "
            f"answers are known (there are: {there}); give what must be gone, or remove the callback"
        )
    return lies or texts


def turned_round(probe: Probe) -> Probe:
    """Questions about corrupted facts whose answer is the lie; rows without a known lie are left out."""
    return replace(probe, examples=[_lie(row) for row in probe.examples if row.perturbed])


def _lie(row: Example) -> Example:
    answer, *aliases = row.perturbed
    return replace(row, answer=answer, aliases=tuple(aliases), perturbed=row.accepted, paraphrase=None)


def kept_questions(probes: Sequence[Probe]) -> list[Probe]:
    """Questions that a model may answer: of the roles `retain`, `utility` and `control`, see `questions_of`."""
    return [each for role in KEPT_ROLES for each in questions_of(probes, role)]


def questions_of(probes: Iterable[Probe], role: str) -> list[Probe]:
    """Questions of a role in their own words; where there are none, the texts whose rows have prompts, as questions."""
    own = [probe for probe in probes if probe.role == role and probe.examples]
    with_prompts = [probe for probe in own if probe.kind == "text" and all(row.prompt for row in probe.examples)]
    return in_own_words(own) or [replace(probe, kind="question") for probe in with_prompts]


def in_own_words(probes: Iterable[Probe]) -> list[Probe]:
    """The sets of questions without those that ask another set's rows once more, in other words or a part of them.

    Args:
        probes: Of one role. Of several sets of questions that ask one set of texts, the first asks in its own words.
    """
    asked = [probe for probe in probes if probe.kind == "question" and probe.examples]
    found = [probe for probe in asked if not probe.rows_of]
    for probe in asked:
        known = {each.name for each in found} | {each.rows_of for each in found}
        if probe.rows_of and probe.rows_of not in known:
            found.append(probe)
    return found
