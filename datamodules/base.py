"""What every DataModule here is: streams to train on, probes to measure on, checked and encoded once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedTokenizerBase

from soul_lightning.datamodules.alternatives import alternative_rows
from soul_lightning.datamodules.augmentation import Augmentation, Augmenter
from soul_lightning.datamodules.description import AS_IT_BEGINS, Description, describe_task
from soul_lightning.datamodules.loader import LENGTH_GROUP_WINDOWS, ChangingRows, StepLoader
from soul_lightning.datamodules.overlap import ForgetRows, Overlap
from soul_lightning.datamodules.stream_checks import check_streams, checked_overlap
from soul_lightning.datamodules.streamed_plan import EncodedStream
from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.datamodules.task import Task, split_into_requests
from soul_lightning.encoding import EncodedExample, collate, encode, encode_labelled, rows_hash
from soul_lightning.encoding_cache import cache_folder
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import load_tokenizer
from soul_lightning.protocols import Batch, Example, Probe, ReadsViews, StreamSize, View
from soul_lightning.templates import PromptTemplate, TemplateName, named_template

logger = logging.getLogger(__name__)


class StreamDataModule(LightningDataModule):
    """Encodes the streams of a task, checks them, and serves them as `Step`s.

    A subclass says what the task is, in `load`. An epoch is one pass over the leading stream (forget, where there is
    one); the others are drawn without replacement and carry on across epochs.

    Args:
        batch_size: Rows of each stream in one optimizer step, on each process. The module's `micro_batches` cuts it
            into several backward passes.
        max_tokens: Longest row, in tokens; longer ones are cut on the right.
        template: How prompts and answers are written and what of them is learned: a format by name (`chat`, `llama2`,
            `plain`, `soul`, `tofu`) or a `PromptTemplate`; the task's usual way if none is given. Probes are written
            alike, and scored on their answers whatever is learned.
        tokenizer: Folder or name of a tokenizer, or the tokenizer; the trained module's own if none is given.
        allow_overlap: Go on although forget rows also stand in the retain stream, or trained rows in the holdout.
        requests: Cut what is to be forgotten into so many requests that arrive one after another (MUSE, Shi et al.
            2025), by subject where rows have one: `forget` becomes the rows of `request`, see `split_into_requests`.
            No request's rows may stand in retain, where they would be learned again.
        request: The request that is trained on, from 1, or several that are trained on together.
        request_at_step: Targets that change during the run: which request takes the place of `request` once so many
            optimizer steps were taken, by their number. An epoch is then as long as a pass over the largest of them.
        augmentation: Rows that are added to `forget`: the same in other words, and behind unrelated facts, as in
            `{paraphrases: 2, unrelated_facts: 3}`; the probes stay as they are.
        seed: Seed of the order of rows.
        cache_dir: Where encoded rows are kept; the user's cache folder if none is given.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    length_group_windows = LENGTH_GROUP_WINDOWS
    """So many steps' rows are sorted by length together."""

    default_template = PromptTemplate()
    """How prompts and answers are written where no template is given."""

    def __init__(
        self,
        *,
        batch_size: int = 8,
        max_tokens: int = 512,
        template: PromptTemplate | TemplateName | None = None,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        allow_overlap: bool = False,
        requests: int = 1,
        request: int | list[int] = 1,
        request_at_step: dict[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or max_tokens < 2:
            raise MisconfigurationError(
                f"{type(self).__name__}: batch_size must be >= 1 and max_tokens >= 2, got {batch_size} and {max_tokens}"
            )
        first = [request] if isinstance(request, int) else request
        later = dict(request_at_step or {})
        for number in (*first, *later.values()):
            if not 1 <= number <= requests:
                raise MisconfigurationError(
                    f"{type(self).__name__}: request counts from 1 to requests, got request={number} of {requests}"
                )
        if not first or (later and (len(first) > 1 or min(later) < 1)):
            raise MisconfigurationError(
                f"{type(self).__name__}: request_at_step says which request follows on the one that a run begins with, "
                f"by a step >= 1, got request={request} and request_at_step={later}; give a single request first"
            )
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.training_template = named_template(template) if template is not None else self.default_template
        self.template = replace(self.training_template, labels="answer")
        self.allow_overlap = allow_overlap
        self.requests = requests
        self.request = request
        if later and augmentation is not None:
            raise MisconfigurationError(
                f"{type(self).__name__}: rows that augmentation adds belong to no request, and request_at_step "
                f"trains on one request after another; leave one of them out"
            )
        self._trained_requests = {*first, *later.values()}
        self._request_at_step = {0: first[0], **later} if later else {}
        self.augmentation = augmentation
        self.added_rows = 0  # by augmentation, to forget
        self.seed = seed
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else cache_folder()
        self.task: Task | None = None
        self.overlap = Overlap(0, 0, 0, 0)
        self._tokenizer = tokenizer
        self._encoded: dict[str, Sequence[EncodedExample]] = {}
        self._streamed: dict[str, EncodedStream] = {}
        self._loader: StepLoader | None = None
        self._loader_state: dict[str, Any] = {}

    @abstractmethod
    def load(self) -> Task:
        """Read the task's rows.

        Raises:
            MisconfigurationError: A file or a column is missing.
        """

    def rewordings(self, row: Example) -> Sequence[Example]:
        """Other wordings of a forget row that `augmentation` may add, with the same answer to learn or forget.

        Args:
            row: A row of the forget stream.
        """
        del row
        return ()

    def prepare_data(self) -> None:
        """Set up before loggers and run folders are made, so that unusable input leaves nothing behind.

        It also fills the cache for the other processes.
        """
        self.setup()

    def setup(self, stage: str = "fit") -> None:
        """Load, check and encode, once.

        Raises:
            MisconfigurationError: A stream is empty, or forget rows stand in retain.
        """
        self._loader = None  # of an earlier run
        if self.task is not None:
            return
        task = self.load()
        forget = task.streams.get("forget", ())  # of all requests: what an earlier one took away stays away
        check_streams(type(self).__name__, task.streams)
        if self.requests > 1:
            task = split_into_requests(task, self.requests, self._trained_requests)
        if self.augmentation is not None:
            template = self.training_template
            augmented = Augmenter(self.augmentation, self.rewordings, self.tokenizer, template)(task)
            self.added_rows = len(augmented.streams["forget"]) - len(task.streams["forget"])
            forget, task = [*forget, *augmented.streams["forget"][-self.added_rows :]], augmented
        if "forget" in task.streams and "retain" in task.streams:
            self.overlap = checked_overlap(type(self).__name__, forget, task.streams["retain"], self.allow_overlap)
        self._encoded = {name: self._encode(name, rows) for name, rows in task.streams.items()}
        left_out = ForgetRows(forget if not self.allow_overlap else ())
        self._streamed = {name: self._encode_later(rows, left_out) for name, rows in task.streamed.items()}
        self.task = task
        self._encode_alternatives()

    def _encode(self, name: str, rows: Sequence[Example]) -> Sequence[EncodedExample]:
        encoded = encode(rows, self.tokenizer, self.training_template, self.max_tokens, self.cache_dir)
        if len(encoded) < len(rows):
            logger.warning(
                "%d of %d %s rows are left out: nothing of their answer fits into max_tokens=%d",
                len(rows) - len(encoded), len(rows), name, self.max_tokens,
            )  # fmt: skip
        if encoded.cut:
            logger.warning(
                "%d of %d %s rows are cut at max_tokens=%d, and have no end that could be learned",
                encoded.cut, len(rows), name, self.max_tokens,
            )  # fmt: skip
        return encoded

    def _encode_later(self, rows: StreamedRows, forget: ForgetRows) -> EncodedStream:
        tokenizer, template, max_tokens = self.tokenizer, self.training_template, self.max_tokens
        encode_some = partial(encode_labelled, tokenizer=tokenizer, template=template, max_tokens=max_tokens)
        return EncodedStream(rows, encode_some, forget)

    def _encode_alternatives(self) -> None:
        """Encode the other texts of the rows that the trained module reads and that are not there yet."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        if not isinstance(module, ReadsViews):
            return
        for name, views in module.views().items():
            has_unrelated = self.augmentation is not None and self.augmentation.unrelated_facts > 0
            if name == "forget" and "every_position" in views and has_unrelated:
                raise MisconfigurationError(
                    f"{type(self).__name__}: augmentation.unrelated_facts puts retain rows before forget rows, and the "
                    f"forget objective works on every position, so that they would be forgotten too; set it to 0, or "
                    f"choose another objective"
                )
            for view in views:
                if view in ("refusal", "other_answer") and name in self._streamed:
                    raise MisconfigurationError(
                        f"{type(self).__name__}: the {name} objective reads each row's {view}, and streamed rows have "
                        f"none; leave streamed out of the {name} source, or choose another objective"
                    )
                if view in ("refusal", "other_answer") and name in self._encoded:
                    self._encode_alternative(name, view)

    def _encode_alternative(self, name: str, view: View) -> None:
        rows = self._encoded[name]
        if view in rows[0].alternatives:
            return
        own = {row.index: row for row in rows}
        examples = [row for row in self.loaded.streams[name] if row.index in own]
        encoded = self._encode(f"{name} {view}", alternative_rows(examples, view, self.seed))
        found = {row.index: row for row in encoded}
        # A row whose other answer was cut away keeps its place, with nothing to learn in it.
        self._encoded[name] = [
            replace(
                row,
                alternatives={
                    **row.alternatives,
                    view: found.get(row.index, replace(row.without_labels(), alternatives={})),
                },
            )
            for row in rows
        ]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The given tokenizer, or that of the module that is trained.

        Raises:
            MisconfigurationError: There is neither.
        """
        if self._tokenizer is None:
            module = self.trainer.lightning_module if self.trainer is not None else None
            self._tokenizer = getattr(module, "tokenizer", None)
        if isinstance(self._tokenizer, str):
            self._tokenizer = load_tokenizer(self._tokenizer)
        if self._tokenizer is None:
            raise MisconfigurationError(
                f"{type(self).__name__} found no tokenizer: neither its own argument nor the trained module has one; "
                f"pass tokenizer=…"
            )
        return self._tokenizer

    @property
    def _pad_token_id(self) -> int:
        """The padding token, or the end-of-text token in its place: padding is masked and never labelled."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        raise MisconfigurationError(
            f"{type(self).__name__}: the tokenizer has neither a padding nor an end-of-text token; "
            f"set tokenizer.pad_token"
        )

    @property
    def loaded(self) -> Task:
        """The task, after `setup`."""
        if self.task is None:
            self.setup()
        assert self.task is not None
        return self.task

    def train_dataloader(self) -> StepLoader:
        """The steps of an epoch; without a Trainer those of a single process."""
        assert self.loaded
        self._encode_alternatives()
        self._loader = StepLoader(
            {**self._encoded, **self._streamed, **self._changing},
            self.batch_size,
            self._pad_token_id,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world_size=self.trainer.world_size if self.trainer is not None else 1,
            group_windows=self.length_group_windows,
        )
        self._refuse_late_requests(len(self._loader))
        if self._loader_state:
            self._loader.load_state_dict(self._loader_state)
            self._loader_state = {}  # a later run with the same DataModule starts at the beginning
        return self._loader

    def _refuse_late_requests(self, steps_per_epoch: int) -> None:
        """A request that follows on another after the run's end would never be forgotten, and nobody would notice."""
        if not self._request_at_step or self.trainer is None:
            return
        epochs, most = self.trainer.max_epochs, self.trainer.max_steps
        ends = [epochs * steps_per_epoch] if epochs is not None and epochs >= 0 else []
        end = min([*ends, most] if most >= 0 else ends, default=None)
        last = max(self._request_at_step)
        if end is not None and last >= end:
            raise MisconfigurationError(
                f"{type(self).__name__}: request {self._request_at_step[last]} would follow after {last} optimizer "
                f"steps, and the run has {end}; lower that number in request_at_step, or train longer"
            )

    @property
    def _changing(self) -> dict[str, ChangingRows]:
        """The forget stream, by request, where it changes during the run."""
        if not self._request_at_step:
            return {}
        request_of = self.loaded.request_of
        rows = {
            request: [row for row in self._encoded["forget"] if request_of[row.index] == request]
            for request in sorted(self._trained_requests)
        }
        return {"forget": ChangingRows(rows, self._request_at_step)}

    def val_dataloader(self) -> Sequence[DataLoader[tuple[Tensor, ...]]]:
        """One empty step under `Trainer.validate` and `test`, for callbacks to measure after; none under `fit`."""
        evaluates = self.trainer is not None and self.trainer.state.fn in (TrainerFn.VALIDATING, TrainerFn.TESTING)
        return [DataLoader(TensorDataset(torch.zeros(1)))] if evaluates else []

    def test_dataloader(self) -> Sequence[DataLoader[tuple[Tensor, ...]]]:
        """As `val_dataloader`."""
        return self.val_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in its data.

        Lightning stores a loader's own state too, yet gives it back only when the loader was built after the restore,
        and a schedule that asks for the number of steps builds it before.
        """
        return self._loader.state_dict() if self._loader is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stands; where weights are split, Lightning asks for it after the loader."""
        if self._loader is not None:
            self._loader.load_state_dict(state_dict)
        else:
            self._loader_state = state_dict

    def stream(self, name: str) -> Iterator[Batch]:
        """Every row of one training stream once: longest first so that memory runs out early or never.

        A streamed source is read to its end, in its own order.

        Raises:
            MisconfigurationError: There is no such stream.
        """
        known = [*self.loaded.streams, *self.loaded.streamed]
        if name not in known:
            raise MisconfigurationError(
                f"{type(self).__name__} supplies the streams {', '.join(known)}, not {name!r}; "
                f"name a stream that is supplied"
            )
        self._encode_alternatives()
        if name in self._streamed:
            yield from (collate(rows, self._pad_token_id) for rows in self._streamed[name].once(self.batch_size))
            return
        rows = sorted(self._encoded[name], key=len, reverse=True)
        for start in range(0, len(rows), self.batch_size):
            yield collate(rows[start : start + self.batch_size], self._pad_token_id)

    def stream_sizes(self) -> dict[str, StreamSize]:
        """Rows and tokens of each training stream; of a streamed one nothing is known."""
        assert self.loaded
        sizes = dict.fromkeys(self._streamed, StreamSize())
        for name, rows in self._encoded.items():
            labelled = sum(len(row) - max(1, row.prompt_tokens) for row in rows)  # the first token has no label
            sizes[name] = StreamSize(len(rows), sum(map(len, rows)), labelled)
        return sizes

    def probes(self) -> Sequence[Probe]:
        """The probe sets, after `setup`."""
        return self.loaded.probes

    def describe(self, tokenizer: PreTrainedTokenizerBase | None = None) -> Description:
        """What the streams and probes hold: rows, tokens, what is cut, what stands there twice, a row as it is encoded.

        Of a streamed source one step's rows are looked at.

        Args:
            tokenizer: Encodes the rows where the DataModule has no tokenizer of its own and no trained module.

        Raises:
            MisconfigurationError: The data is not usable, or there is no tokenizer.
        """
        if self._tokenizer is None:
            self._tokenizer = tokenizer
        task = self.loaded
        beginnings = {
            f"{name}{AS_IT_BEGINS}": stream.rows.head(self.batch_size, stream.forget)
            for name, stream in self._streamed.items()
        }
        return describe_task(
            type(self).__name__,
            replace(task, streams={**task.streams, **beginnings}),
            self.overlap,
            self.data_hashes(),
            self.tokenizer,
            self.training_template,
            self.max_tokens,
            {"forget": self.added_rows},
        )

    def data_hashes(self) -> dict[str, str]:
        """A hash of each stream (of a streamed one, of the file that its rows come from) and probe set."""
        task = self.loaded
        hashes = {f"stream/{name}": rows_hash(rows) for name, rows in task.streams.items()}
        hashes |= {f"stream/{name}": rows.hash() for name, rows in task.streamed.items()}
        return hashes | {f"probe/{probe.name}": rows_hash(probe.examples) for probe in task.probes}
