"""The published files of RESTOR (Rezaei et al., TMLR 2025): where they lie, and what they say.

https://github.com/k1rezaei/restor
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.file_names import check_file_name
from soul_lightning.records.json_rows import read_json
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.records.table import TEXT_COLUMN

_ROOTS = (".", "datasets")
_DOCUMENT_FOLDERS = (".", "wikidata/v0", "SQuAD")
_BARE_WIKIDATA_ID = re.compile(r"Q\d+")


@dataclass(frozen=True)
class Question:
    """A question about an entity, with every answer that is true."""

    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ContextExample:
    """An answered question about another entity, shown before the one that is asked."""

    entity: str
    question: str
    answer: str


@dataclass(frozen=True)
class RestorFacts:
    """What RESTOR asks.

    Attributes:
        questions: By entity, then by relation (a Wikidata property such as P19).
        context: In-context examples by relation.
        evaluated: The entities that RESTOR evaluates.
    """

    questions: Mapping[str, Mapping[str, Question]]
    context: Mapping[str, Sequence[ContextExample]]
    evaluated: Sequence[str]


def read_facts(folder: Path) -> RestorFacts:
    """Read facts.json and entities.json from a flat folder or from the public repository.

    Answers that are bare Wikidata identifiers (a person without a label, Q126364294) are no names that a model could
    give; they are left out, and with them a question that has no other answer.

    Raises:
        MisconfigurationError: A file is missing or is not RESTOR's.
    """
    facts_path, facts = _read_json(folder, "facts.json")
    entities_path, evaluated = _read_json(folder, "entities.json")
    every = _object_in(facts_path, facts, "dset")
    questions = {
        entity: dict(_questions(facts_path, entity, _object_in(facts_path, every, entity))) for entity in every
    }
    shown = _object_in(facts_path, facts, "context")
    context = {relation: list(_context_examples(facts_path, relation, rows)) for relation, rows in shown.items()}
    unknown = [entity for entity in evaluated if entity not in questions] if isinstance(evaluated, list) else ["a list"]
    if unknown:
        raise MisconfigurationError(
            f"{entities_path} is not RESTOR's list of entities with facts: {unknown[0]!r} is missing; take "
            f"datasets/entities.json of the RESTOR repository"
        )
    return RestorFacts(questions, context, evaluated)


def _object_in(path: Path, whole: Any, name: str) -> Mapping[str, Any]:
    found = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(found, dict):
        raise MisconfigurationError(
            f"{path} is not RESTOR's facts file: it lacks {name!r}, or that is no object; take datasets/facts.json of "
            f"the RESTOR repository"
        )
    return found


def _questions(path: Path, entity: str, relations: Mapping[str, Any]) -> Iterator[tuple[str, Question]]:
    for relation, row in relations.items():
        place = f"{relation} of {entity}"
        question, answers = _texts(path, place, row, "question")[0], row.get("answers")
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise _unfit(path, place, row, "answers")
        named = tuple(answer for answer in answers if not _BARE_WIKIDATA_ID.fullmatch(answer))
        if named:
            yield relation, Question(question, named)


def _context_examples(path: Path, relation: str, rows: Any) -> Iterator[ContextExample]:
    place = f"{relation} in context"
    if not isinstance(rows, list):
        raise _unfit(path, place, rows, "examples")
    for row in rows:
        yield ContextExample(*_texts(path, place, row, "entity", "question", "answer"))


def _texts(path: Path, place: str, row: Any, *keys: str) -> list[str]:
    for key in keys:
        if not isinstance(row, dict) or not isinstance(row.get(key), str):
            raise _unfit(path, place, row, key)
    return [row[key] for key in keys]


def _unfit(path: Path, place: str, row: object, key: str) -> MisconfigurationError:
    return MisconfigurationError(
        f"{path}: {place} is {row!r:.60}, without {key} as RESTOR has them; mend it, or take datasets/facts.json of "
        f"the RESTOR repository"
    )


def check_relations(owner: str, facts: RestorFacts, relations: Iterable[str] | None) -> None:
    """Refuse relations that no fact has.

    Args:
        owner: Who was given them, for the message.
        facts: Every fact.
        relations: Wikidata properties, or the names of the user's own.

    Raises:
        MisconfigurationError: No fact has one of them.
    """
    known = {relation for questions in facts.questions.values() for relation in questions}
    for relation in relations or ():
        if relation not in known:
            raise MisconfigurationError(
                f"{owner}: no fact has the relation {relation!r}; there are {', '.join(sorted(known))}"
            )


def read_documents(folder: Path, corruption: str) -> list[str]:
    """The documents of a corruption set in the order of its file, those included that it holds twice.

    Args:
        folder: A flat folder, or the public repository.
        corruption: Name of the set (`mix_a0`, `a0`, `squad_v7`) or of its file.

    Raises:
        MisconfigurationError: There is no such set, or it holds something else than texts.
    """
    path = find_documents(folder, corruption)
    return read_records(RecordSource(str(path)), "corruption").texts(TEXT_COLUMN)


def find_documents(folder: Path, corruption: str) -> Path:
    """Where the file of a corruption set lies.

    Raises:
        MisconfigurationError: Nowhere, or the name leads out of the folder.
    """
    if not Path(corruption).is_absolute():  # which names a file of the user's, wherever it lies
        for part in corruption.split("/"):
            check_file_name(part, "RestorDataModule: corruption")
    names = [corruption, f"{corruption}.json", f"mix_{corruption}.json", f"{corruption}_dset.json"]
    folders = list(dict.fromkeys(folder / root / inner for root in _ROOTS for inner in _DOCUMENT_FOLDERS))
    for place in folders:
        for name in names:
            if (place / name).is_file():
                return place / name
    there = sorted({path.stem for place in folders for path in place.glob("*.json")} - {"facts", "entities"})
    raise MisconfigurationError(
        f"there is no corruption set {corruption!r} in {_listed(folders)}, which have {', '.join(there) or 'no set'}; "
        f"name one of them or a file"
    )


def _read_json(folder: Path, name: str) -> tuple[Path, Any]:
    places = [folder / root / name for root in _ROOTS]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MisconfigurationError(
            f"there is no {name} of RESTOR: tried {_listed(places)}; set folder to where its repository was unpacked"
        )
    return path.absolute(), read_json(path.absolute())


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(str(path.absolute()) for path in paths)
