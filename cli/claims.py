"""The claims of a `restor` recipe: what is said, and the differences between stages that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soul_lightning.cli.arguments import nearest
from soul_lightning.exceptions import MisconfigurationError

KEYS = ("of", "minus", "confidence")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number that a claim rests on.

    Attributes:
        of: Stages, whose mean restoration it is about.
        minus: Stages whose mean is taken from it; without any there is nothing to judge.
        by_confidence: It is how what came back with the one stage of `of` depends on the clean model's confidence.
    """

    of: tuple[str, ...]
    minus: tuple[str, ...] = ()
    by_confidence: bool = False

    @property
    def text(self) -> str:
        """What it is, in words."""
        of, minus = (" and ".join(names) for names in (self.of, self.minus))
        if self.by_confidence:
            return f"confidence, {of}"
        return f"{of} minus {minus}" if minus else of


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is said of unlearning.

    Attributes:
        sentence: What is said.
        evidence: Numbers that are above 0 where it is right.
    """

    sentence: str
    evidence: tuple[Evidence, ...]


def parse_claims(settings: Mapping[str, Any], names: Sequence[str]) -> tuple[Claim, ...]:
    """The settings under `claims`.

    Args:
        settings: By claim, a list of what it rests on.
        names: The stages there are.

    Raises:
        MisconfigurationError: A claim rests on nothing, a key is unknown, or there is no stage of a name.
    """
    claims = []
    for sentence, listed in settings.items():
        where = f"claims.{sentence}"
        if not isinstance(listed, list) or not listed or not all(isinstance(each, Mapping) for each in listed):
            raise MisconfigurationError(
                f"{where} must list what it rests on, as in [{{of: npo, minus: graddiff}}], got {listed!r:.60}"
            )
        claims.append(Claim(str(sentence), tuple(_evidence(each, where, names) for each in listed)))
    return tuple(claims)


def _evidence(own: Mapping[str, Any], where: str, names: Sequence[str]) -> Evidence:
    for key in own:
        if key not in KEYS:
            raise MisconfigurationError(
                f"{where} has no key {key!r}{nearest(str(key), KEYS)}; its keys are {', '.join(KEYS)}"
            )
    if ("confidence" in own) == ("of" in own) or ("confidence" in own and len(own) > 1):
        raise MisconfigurationError(
            f"{where} says {dict(own)!r:.80}; give either of (and perhaps minus), or confidence alone"
        )
    of = _stages(own.get("of", own.get("confidence")), where, names)
    minus = _stages(own["minus"], where, names) if "minus" in own else ()
    if "confidence" in own and len(of) > 1:
        raise MisconfigurationError(f"{where}: confidence takes one stage, got {', '.join(of)}; list it once for each")
    return Evidence(of, minus, "confidence" in own)


def _stages(value: Any, where: str, names: Sequence[str]) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    for name in given:
        if name not in names:
            raise MisconfigurationError(
                f"{where} names {name!r}, and there is no such stage{nearest(str(name), names)}; "
                f"the stages are {', '.join(names)}"
            )
    if not given:
        raise MisconfigurationError(f"{where} has an empty list of stages; name at least one")
    return tuple(given)
