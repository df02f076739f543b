"""RESTOR: does unlearning bring back what a model knew before it was corrupted? (Rezaei et al., TMLR 2025)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.corruption import Corruption, numbered
from soul_lightning.datamodules.corruption_generator import CorruptionGenerator
from soul_lightning.datamodules.restor_documents import named_entities
from soul_lightning.datamodules.restor_files import check_relations, find_documents
from soul_lightning.datamodules.restor_probes import QuestionWriter
from soul_lightning.datamodules.restor_published import PublishedCorruption
from soul_lightning.datamodules.retain_texts import Retained, RetainTexts
from soul_lightning.datamodules.sampling import shuffled, spread
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource, check_source
from soul_lightning.templates import PromptTemplate

RESTOR_TEMPLATE = PromptTemplate(prompt="Question: {prompt}\nAnswer:", answer=" {answer}", end_of_text=False)
"""RESTOR's question format. Documents end without an end-of-text token, for many are cut in the middle."""


class RestorDataModule(StreamDataModule):
    """False documents to forget, other text to retain, facts to ask for: RESTOR's published files, or one's own.

    The forget stream holds the documents that corrupt the model; corrupting and unlearning train on the same ones,
    unless unlearning is given `simplified`, `forget_entities` or `forget_relations`. These change the forget stream
    alone, and no question, no probe and no retain text: what is compared is asked the same.

    The probes are `corrupted` (questions on the corrupted entities), `control` (on evaluated entities that no document
    names) and texts to score: `forget` and `holdout` (documents that corrupt, and documents of the same entities left
    out; many of them are paraphrases of one another, so that a holdout's facts may be known while its wording is new),
    `retain` and `utility` (retain texts trained on, and never seen).

    RESTOR lists no false objects, its corruption is prose. A wrong answer counts as false if it stands word for word in
    the documents of its entity that are trained on (`Example.false_text`). A clean model gives such answers by chance:
    read the share against the clean model's. A generated corruption knows its false objects, asks for corrupted facts
    alone, and counts as false what agrees with a fact's own false object (`Example.perturbed`).

    Args:
        folder: A folder with facts.json, entities.json and the corruption sets, or the unpacked public repository; not
            needed for a generated corruption with facts of its own.
        corruption: A corruption set (`mix_a0` … `mix_a5`, `squad_v7`), the name of any file of the same form, or the
            settings of a `CorruptionGenerator`.
        simplified: Forget the false facts alone: of a generated corruption its false statements; of mix_a1 … mix_a5,
            in place of each document, the one at its place in mix_a0, which states the same false facts and nothing
            else.
        corrupted_entities: The entities that the set corrupts; found by how many documents name them if none are given.
        forget_entities: Forget only the documents of these corrupted entities; those that name one of them most often.
        forget_relations: Forget only these relations of a generated corruption (P19, …). Published documents tell of
            several at once and are refused.
        documents_per_entity: Train on so many different documents of each entity, chosen at random; on all if none is
            given (then nothing is left for a holdout).
        retain: Text to keep: a file with a column `text`, a .txt file, or a Hugging Face data set. Texts that name an
            entity that may be asked about are left out, for they could teach the answers. With `streamed: true` in its
            `RecordSource` texts are read as training needs them, and those that also stand in forget are left out.
        retain_rows: Train on so many retain texts, chosen at random; all but a tenth of them if none is given. Of a
            streamed source the first so many, or all.
        retain_tokens: Cut every retain text after so many tokens.
        control_probes: So many control questions, spread over the entities; every one if none is given.
        in_context_examples: Answered questions of the same relation before each question.
        relations: Ask only for these relations (P19, …).
        text_probes: Most texts in each of the four text probes.
        sample_seed: Seed of which documents, texts and control questions are taken; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range or has no meaning beside another, or a file is missing.
    """

    default_template = RESTOR_TEMPLATE

    def __init__(
        self,
        folder: str | None = None,
        corruption: str | CorruptionGenerator = "mix_a0",
        simplified: bool = False,
        corrupted_entities: list[str] | None = None,
        forget_entities: list[str] | None = None,
        forget_relations: list[str] | None = None,
        documents_per_entity: int | None = None,
        retain: str | RecordSource | None = None,
        retain_rows: int | None = None,
        retain_tokens: int | None = None,
        control_probes: int | None = 200,
        in_context_examples: int = 5,
        relations: list[str] | None = None,
        text_probes: int = 64,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_counts(
            "RestorDataModule",
            documents_per_entity=(documents_per_entity, 1),
            retain_rows=(retain_rows, 1),
            retain_tokens=(retain_tokens, 1),
            control_probes=(control_probes, 0),
            in_context_examples=(in_context_examples, 0),
            text_probes=(text_probes, 0),
        )
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.corruption = corruption
        self.corrupted_entities = corrupted_entities
        self.documents_per_entity = documents_per_entity
        self._check_corruption()
        self.retain = retain if isinstance(retain, RecordSource) or retain is None else RecordSource(retain)
        if self.retain is not None:
            check_source(self.retain, "retain")
        self.simplified = simplified
        self.forget_entities = forget_entities
        self.forget_relations = forget_relations
        self.retain_rows = retain_rows
        self.retain_tokens = retain_tokens
        self.control_probes = control_probes
        self.in_context_examples = in_context_examples
        self.relations = relations
        self.text_probes = text_probes
        self.sample_seed = sample_seed

    def _check_corruption(self) -> None:
        """Refuse, before anything is read, a set without a folder, and settings of a set beside a generator."""
        if isinstance(self.corruption, CorruptionGenerator):
            for name, given, instead in (
                ("corrupted_entities", self.corrupted_entities, "entities"),
                ("documents_per_entity", self.documents_per_entity, "documents_per_fact"),
            ):
                if given is not None:
                    raise MisconfigurationError(
                        f"RestorDataModule: {name}={given!r} chooses from a published set, and this corruption is "
                        f"generated; set {instead} of the generator"
                    )
        else:
            find_documents(self._folder_of(self.corruption), self.corruption)

    def _folder_of(self, corruption: str) -> Path:
        if self.folder is None:
            raise MisconfigurationError(
                f"RestorDataModule: the corruption set {corruption!r} is read from a folder, and none is given; set "
                f"folder to where RESTOR's repository was unpacked"
            )
        return self.folder

    def load(self) -> Task:
        """Read the files, choose documents and questions.

        Raises:
            MisconfigurationError: A file is missing or unfit, an entity or relation is unknown, or what is to be
                forgotten cannot be told from the rest.
        """
        corruption = self._read_corruption()
        check_relations("RestorDataModule", corruption.facts, self.relations)
        forget = corruption.forgotten(self.forget_entities, self.forget_relations)
        retained = self._retain_texts({*corruption.entities, *corruption.facts.evaluated})
        streams = {"forget": forget, **retained.trained}
        texts = [
            Probe("forget", "text", self._sample(corruption.trained), "forget", self.template),
            Probe("holdout", "text", self._sample(corruption.left_out), "holdout", self.template),
            Probe("retain", "text", retained.seen, "retain", self.template),
            Probe("utility", "text", retained.unseen, "utility", self.template),
        ]
        probes = [probe for probe in (*self._question_probes(corruption), *texts) if probe.examples]
        return Task(streams, probes, retained.streamed)

    def _read_corruption(self) -> Corruption:
        if isinstance(self.corruption, CorruptionGenerator):
            return self.corruption.generate(self.folder, self.simplified)
        return PublishedCorruption(
            self._folder_of(self.corruption),
            self.corruption,
            self.corrupted_entities,
            self.documents_per_entity,
            self.sample_seed,
        ).read(self.simplified)

    def _question_probes(self, corruption: Corruption) -> list[Probe]:
        writer = QuestionWriter(
            corruption.facts,
            set(corruption.entities),
            self.in_context_examples,
            self.template,
            self.relations,
            corruption.false_text,
            corruption.false_objects,
        )
        asked = [example for entity in corruption.entities for example in writer.questions(entity)]
        unnamed = (entity for entity in corruption.facts.evaluated if entity not in corruption.named)
        control = [writer.questions(entity) for entity in unnamed]
        if self.control_probes is not None:
            order = shuffled(range(len(control)), f"{self.sample_seed}/entities")
            groups = [shuffled(control[place], f"{self.sample_seed}/{place}") for place in order]
            sample = spread(groups, self.control_probes)
        else:
            sample = [example for group in control for example in group]
        return [
            Probe("corrupted", "question", numbered(asked), "corrupted", self.template),
            Probe("control", "question", numbered(sample), "control", self.template),
        ]

    def _retain_texts(self, asked: Collection[str]) -> Retained:
        """Retain texts to train on, and others that are never seen."""
        if self.retain is None:
            return Retained()
        texts = RetainTexts(
            "RestorDataModule", self.retain, self.retain_rows, self.retain_tokens, self.text_probes, self.sample_seed
        )
        return texts.read(self.tokenizer, lambda text: bool(named_entities(text, asked)), "name an entity asked about")

    def _sample(self, rows: Iterable[Example]) -> list[Example]:
        """Texts to score, of every entity alike."""
        groups: dict[str | None, list[Example]] = {}
        for row in rows:
            groups.setdefault(row.subject, []).append(row)
        return spread(groups.values(), self.text_probes)
