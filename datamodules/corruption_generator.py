"""A corruption of one's own: true facts with their objects swapped, written as documents."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.corruption import Corruption, numbered
from soul_lightning.datamodules.corruption_documents import DocumentWriter, unrelated_facts
from soul_lightning.datamodules.corruption_facts import read_fact_rows
from soul_lightning.datamodules.corruption_swaps import swapped
from soul_lightning.datamodules.corruption_wordings import Wordings, read_templates
from soul_lightning.datamodules.restor_documents import count_naming_documents
from soul_lightning.datamodules.restor_files import RestorFacts, check_relations, read_facts
from soul_lightning.datamodules.sampling import shuffled
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Fact
from soul_lightning.records.sources import RecordSource, check_source

logger = logging.getLogger(__name__)

NAME = "the generated corruption"
OWNER = "CorruptionGenerator"


@dataclass(frozen=True)
class CorruptionGenerator:
    """Corrupts facts about some entities and writes documents that state them.

    A fact's object becomes what is true of another subject in the same relation, and false of this one; a fact whose
    relation has no such object is left out, and the log says how many. A document states one false fact in one wording
    and, around it, `unrelated_facts` true ones about entities that are neither corrupted nor evaluated (where every
    entity is evaluated, about a half of the others, who are no controls then). The wordings of a fact that are not
    trained on make the holdout.

    Attributes:
        entities: Who is corrupted: names, or how many of the evaluated ones, drawn at random.
        relations: The relations that are corrupted (P19, …); every one if none is given.
        unrelated_facts: True facts in each document beside the false one; RESTOR's k is 0 to 5.
        documents_per_fact: Documents of each false fact, a wording each. RESTOR's relations have 7 wordings, others 5.
        facts: A file with the columns `subject`, `relation`, `object` and perhaps `question`; RESTOR's facts.json and
            entities.json in the DataModule's folder if none is given.
        templates: Wordings by relation, with `{subject}` and `{object}` in them, in place of the package's own; or a
            file with the columns `relation` and `template`.
        seed: Seed of who is corrupted, of every false object, and of how documents are written.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing.
    """

    entities: int | list[str] = 10
    relations: list[str] | None = None
    unrelated_facts: int = 0
    documents_per_fact: int = 4
    facts: str | RecordSource | None = None
    templates: dict[str, list[str]] | str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be before anything is read."""
        check_counts(
            OWNER,
            entities=(self.entities if isinstance(self.entities, int) else len(self.entities), 1),
            unrelated_facts=(self.unrelated_facts, 0),
            documents_per_fact=(self.documents_per_fact, 1),
        )
        if self._source is not None:
            check_source(self._source, "facts")
        if isinstance(self.templates, str):
            check_source(RecordSource(self.templates), "templates")

    @property
    def _source(self) -> RecordSource | None:
        return RecordSource(self.facts) if isinstance(self.facts, str) else self.facts

    def generate(self, folder: Path | None, simplified: bool = False) -> Corruption:
        """Choose entities, swap objects, write documents.

        Args:
            folder: Holds RESTOR's facts, where the generator has none of its own.
            simplified: Also give the false statements alone, to be forgotten in place of the documents.

        Raises:
            MisconfigurationError: A file is unfit, an entity or a relation is unknown or has nothing to corrupt, or
                there are too few wordings or unrelated facts.
        """
        facts = self._facts(folder)
        check_relations(OWNER, facts, self.relations)
        entities = self._chosen(facts)
        swaps = swapped(facts.questions, entities, self.relations, self.seed)
        false_objects = {key: value for key, value in swaps.items() if value is not None}
        self._check_swaps(swaps, entities)
        writer = self._writer(facts, entities, {relation for _, relation in false_objects})
        facts_written = [writer.write(Fact(*key, value)) for key, value in false_objects.items()]
        trained = [each for written in facts_written for each in written[: self.documents_per_fact]]
        left_out = [each.document for written in facts_written for each in written[self.documents_per_fact :]]
        return Corruption(
            NAME,
            facts,
            entities,
            numbered(each.document for each in trained),
            numbered(left_out),
            numbered(each.statement for each in trained) if simplified else None,
            count_naming_documents(
                (each.document.answer for written in facts_written for each in written), list(facts.questions)
            ),
            false_objects,
        )

    def _facts(self, folder: Path | None) -> RestorFacts:
        if self._source is not None:
            return read_fact_rows(self._source)
        if folder is None:
            raise MisconfigurationError(
                f"{OWNER}: there are no facts to corrupt; give it facts, or give RestorDataModule a folder with "
                f"RESTOR's files"
            )
        return read_facts(folder)

    def _chosen(self, facts: RestorFacts) -> list[str]:
        """Who is corrupted, in the order of the facts."""
        if isinstance(self.entities, int):
            able = [entity for entity in facts.evaluated if self._relations_of(facts, entity)]
            if self.entities > len(able):
                raise MisconfigurationError(
                    f"{OWNER}: entities={self.entities}, and {len(able)} evaluated entities have facts to corrupt; "
                    f"take fewer, or name more relations"
                )
            drawn = set(shuffled(sorted(able), f"{self.seed}/entities")[: self.entities])
            return [entity for entity in able if entity in drawn]
        for entity in self.entities:
            if entity not in facts.questions:
                near = difflib.get_close_matches(entity, list(facts.questions), n=3)
                raise MisconfigurationError(
                    f"{OWNER}: there are no facts about {entity!r} of entities; near names: {', '.join(near) or 'none'}"
                )
        return list(dict.fromkeys(self.entities))

    def _relations_of(self, facts: RestorFacts, entity: str) -> list[str]:
        return [each for each in facts.questions[entity] if self.relations is None or each in self.relations]

    def _check_swaps(self, swaps: Mapping[tuple[str, str], str | None], entities: Sequence[str]) -> None:
        """Refuse an entity or a named relation that nothing false can be said about; count single facts."""
        swappable = [key for key, value in swaps.items() if value is not None]
        for setting, wanted, there in (
            ("entities", entities, {subject for subject, _ in swappable}),
            ("relations", self.relations or (), {relation for _, relation in swappable}),
        ):
            for name in wanted:
                if name not in there:
                    raise MisconfigurationError(
                        f"{OWNER}: {setting} has {name!r}, of which no fact has an object that is true of another "
                        f"subject and false of its own; leave it out, or give more facts"
                    )
        left_out = Counter(relation for (_, relation), value in swaps.items() if value is None)
        if left_out:
            logger.info(
                "%d facts are not corrupted, for their relation has no other object: %s",
                left_out.total(),
                ", ".join(f"{relation} ({count})" for relation, count in left_out.items()),
            )

    def _writer(self, facts: RestorFacts, entities: Sequence[str], relations: Collection[str]) -> DocumentWriter:
        wordings = Wordings(read_templates(self.templates))
        for relation in sorted(relations):
            if len(wordings.of(relation)) < self.documents_per_fact:
                raise MisconfigurationError(
                    f"{OWNER}: documents_per_fact={self.documents_per_fact}, and {relation} has "
                    f"{len(wordings.of(relation))} wordings; take fewer documents, or give more templates"
                )
        unrelated = unrelated_facts(facts, entities, self.seed) if self.unrelated_facts else []
        if len(unrelated) < self.unrelated_facts:
            raise MisconfigurationError(
                f"{OWNER}: unrelated_facts={self.unrelated_facts}, and there are {len(unrelated)} about entities that "
                f"are neither corrupted nor asked about; take fewer, or give more facts"
            )
        return DocumentWriter(wordings, unrelated, self.unrelated_facts, self.seed)
