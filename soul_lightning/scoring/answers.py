"""Judged answers of a model to a probe, as rows that can be kept and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import replaced_when_written
from soul_lightning.metrics.judge import Judge
from soul_lightning.protocols import Probe
from soul_lightning.scoring.adapter import CausalLMAdapter


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One judged answer.

    Attributes:
        model: Name of the model in the comparison (`clean`, `corrupted`, `retain-only`, `unlearned`, …).
        probe: `Probe.name`.
        role: `Probe.role`.
        index: `Example.index`.
        subject: The entity asked about; empty where the example names none.
        relation: The relation asked for; empty where the example names none.
        prompt: The question, without its context.
        truth: The main true answer.
        answer: What the model wrote.
        true: It matches an accepted answer.
        false: It matches a known false answer.
        probe_hash: `rows_hash` of the probe's examples; rows with different hashes answer different questions.
        seed: The run that the row is of, when runs with several seeds are pooled.
    """

    model: str
    probe: str
    role: str
    index: int
    subject: str
    relation: str
    prompt: str
    truth: str
    answer: str
    true: bool
    false: bool
    probe_hash: str
    seed: int = 0

    @property
    def key(self) -> tuple[int, str, int]:
        """What is the same question to every model: (seed, probe, index)."""
        return (self.seed, self.probe, self.index)


def answer_probe(
    adapter: CausalLMAdapter,
    probe: Probe,
    judge: Judge,
    *,
    model: str,
    max_new_tokens: int = 16,
    batch_size: int = 32,
) -> list[AnswerRow]:
    """Let a model answer every question of `probe`, and judge the answers.

    Args:
        adapter: The model.
        probe: The questions.
        judge: Compares an answer with the accepted and the known false ones.
        model: The model's name in the rows.
        max_new_tokens: Most tokens of an answer.
        batch_size: Questions answered at once.
    """
    answers = adapter.generate(probe.examples, probe.template, max_new_tokens, batch_size)
    probe_hash = rows_hash(probe.examples)
    rows = []
    for example, answer in zip(probe.examples, answers, strict=True):
        verdict = judge(answer, example.accepted, example.perturbed, example.false_text)
        row = AnswerRow(
            model=model,
            probe=probe.name,
            role=probe.role,
            index=example.index,
            subject=example.subject or "",
            relation=example.relation or "",
            prompt=example.prompt,
            truth=example.answer,
            answer=answer,
            true=verdict.true,
            false=verdict.false,
            probe_hash=probe_hash,
        )
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Sequence[AnswerRow]) -> None:
    """Write one JSON object a line; the file is whole or not there."""
    with replaced_when_written(path) as temporary:
        lines = (json.dumps(asdict(row), ensure_ascii=False) for row in rows)
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_rows(path: Path) -> list[AnswerRow]:
    """Read what `write_rows` wrote.

    Raises:
        MisconfigurationError: There is no such file, it is empty, or a line is not an answer row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also split inside answers
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MisconfigurationError(
            f"the rows file {str(path)!r} cannot be read ({reason}); give a file that the Restoration callback wrote"
        ) from error
    rows = [_parse(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise MisconfigurationError(f"the rows file {str(path)!r} has no rows; answer the probes again")
    return rows


def _parse(path: Path, number: int, line: str) -> AnswerRow:
    try:
        return row_from(json.loads(line))
    except (json.JSONDecodeError, MisconfigurationError) as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise MisconfigurationError(
            f"line {number} of the rows file {str(path)!r} is no answer row ({reason}); answer the probes again"
        ) from error


_KINDS = {"str": str, "int": int, "bool": bool}


def row_from(record: Any) -> AnswerRow:
    """An answer row from the plain values that `dataclasses.asdict` gives.

    Raises:
        MisconfigurationError: A field is missing, unknown or of the wrong kind.
    """
    if not isinstance(record, dict):
        raise MisconfigurationError(f"a {type(record).__name__} in place of an object")
    known = {field.name: _KINDS[str(field.type)] for field in fields(AnswerRow)}
    wrong = [
        *(f"{name} is unknown" for name in record if name not in known),
        *(f"{name} is missing" for name in known if name not in record and name != "seed"),
        *(f"{name} is {value!r}" for name, value in record.items() if name in known and type(value) is not known[name]),
    ]
    if wrong:
        raise MisconfigurationError(wrong[0])
    return AnswerRow(**record)


def check_rows(rows: Sequence[AnswerRow], probes: Sequence[Probe], source: str) -> list[AnswerRow]:
    """The rows that answer `probes`, in the probes' order.

    Args:
        rows: Rows of one model, of these and perhaps of other probes.
        probes: The questions at hand.
        source: Where the rows come from, for the error.

    Raises:
        MisconfigurationError: The rows answer other questions.
    """
    found = {(row.probe, row.index): row for row in rows}
    checked = []
    for probe in probes:
        probe_hash = rows_hash(probe.examples)
        for example in probe.examples:
            row = found.get((probe.name, example.index))
            if row is None or row.probe_hash != probe_hash:
                had = f"hash {row.probe_hash}" if row is not None else f"no answer to question {example.index}"
                raise MisconfigurationError(
                    f"{source} had {had} for the probe {probe.name!r} (hash {probe_hash}), so the answers are to other "
                    f"questions; let that model answer the probe at hand again"
                )
            checked.append(row)
    return checked


def check_same_questions(rows_per_model: Mapping[str, Sequence[AnswerRow]]) -> None:
    """Refuse a comparison of models that answered different questions.

    Raises:
        MisconfigurationError: Two models' rows differ in a question, or one has a question twice.
    """
    first: dict[tuple[int, str, int], str] = {}
    first_model = ""
    for model, rows in rows_per_model.items():
        asked = {row.key: row.probe_hash for row in rows}
        if len(asked) != len(rows):
            raise MisconfigurationError(
                f"the rows of {model!r} hold {len(rows) - len(asked)} questions twice; set AnswerRow.seed apart for "
                f"each run, and give each run once"
            )
        if not first_model:
            first, first_model = asked, model
        elif asked != first:
            differing = len(set(asked.items()) ^ set(first.items()))
            raise MisconfigurationError(
                f"the models {first_model!r} and {model!r} answered different questions ({differing} rows differ by "
                f"run, probe, index or probe hash); compare rows of the same probes and the same runs"
            )
