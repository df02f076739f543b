"""The user's own facts, a row each, in the form of RESTOR's."""

from __future__ import annotations

from soul_lightning.datamodules.corruption_wordings import relation_name
from soul_lightning.datamodules.restor_files import ContextExample, Question, RestorFacts
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource, read_records


def read_fact_rows(source: RecordSource) -> RestorFacts:
    """Read rows of a subject, a relation, an object and, if there is such a column, a question.

    Several rows of one subject and relation are several true objects, the first of them the answer; the question is the
    first that one of them asks, or «What is the RELATION of SUBJECT?». Every subject may be asked about, and each is
    an in-context example for the others.

    Args:
        source: A file with the columns `subject`, `relation`, `object` and perhaps `question`.

    Raises:
        MisconfigurationError: The source cannot be read, or holds no facts.
    """
    table = read_records(source, "facts")
    columns = [table.texts(column) for column in ("subject", "relation", "object")]
    asked = table.optional_texts("question" if "question" in table.columns else None)
    questions: dict[str, dict[str, Question]] = {}
    for subject, relation, value, text in zip(*columns, asked, strict=True):
        own = questions.setdefault(subject, {})
        known = own.get(relation, Question("", ()))
        answers = tuple(dict.fromkeys((*known.answers, value)))
        own[relation] = Question(known.question or text or "", answers)
    if not questions:
        raise MisconfigurationError(f"facts: {table.name} has no rows; give a file with at least one fact")
    questions = {
        subject: {relation: _asked(each, subject, relation) for relation, each in own.items()}
        for subject, own in questions.items()
    }
    context: dict[str, list[ContextExample]] = {}
    for subject, own in questions.items():
        for relation, each in own.items():
            context.setdefault(relation, []).append(ContextExample(subject, each.question, each.answers[0]))
    return RestorFacts(questions, context, list(questions))


def _asked(question: Question, subject: str, relation: str) -> Question:
    text = question.question or f"What is the {relation_name(relation)} of {subject}?"
    return Question(text, question.answers)
