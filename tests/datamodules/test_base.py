"""What every DataModule does: check, encode, serve, and say what it holds."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules import UnlearningModule
from soul_lightning.objectives import NPO
from soul_lightning.protocols import Example, SuppliesProbes, SuppliesStreams
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_trainer

ROWS = as_examples(FORGET)


class Given(StreamDataModule):
    """Streams as they are handed in."""

    def __init__(
        self,
        streams: dict[str, list[Example]],
        tokenizer: PreTrainedTokenizerFast | None,
        allow_overlap: bool = False,
        batch_size: int = 2,
        max_tokens: int = 16,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            max_tokens=max_tokens,
            template=PLAIN,
            tokenizer=tokenizer,
            allow_overlap=allow_overlap,
        )
        self.streams = streams
        self.loads = 0

    def load(self) -> Task:
        self.loads += 1
        return Task(self.streams)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"max_tokens": 1}])
def test_sizes_out_of_range_are_refused(tokenizer: PreTrainedTokenizerFast, settings: dict[str, int]) -> None:
    with pytest.raises(MisconfigurationError, match="batch_size must be >= 1 and max_tokens >= 2"):
        Given({"forget": ROWS}, tokenizer, **settings)  # type: ignore[arg-type]


def test_an_empty_stream_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MisconfigurationError, match="the retain stream has no rows"):
        Given({"forget": ROWS, "retain": []}, tokenizer).setup()


def test_forget_rows_in_retain_are_counted_and_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    streams = {"forget": ROWS, "retain": [ROWS[0], Example("Rome and Oslo!", "bela lives in", 1), Example("x", "y", 2)]}
    with pytest.raises(MisconfigurationError, match=r"1 of 6 forget rows and 2 of 6 forget facts .* allow_overlap"):
        Given(streams, tokenizer).setup()


def test_rows_without_numbers_of_their_own_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [Example("paris", "ada lives in"), Example("rome", "bela lives in")]
    with pytest.raises(MisconfigurationError, match="1 of the forget stream's indices stand for several rows"):
        Given({"forget": rows}, tokenizer).setup()


def test_allow_overlap_goes_on_with_a_warning(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    module = Given({"forget": ROWS, "retain": ROWS}, tokenizer, allow_overlap=True)
    with caplog.at_level(logging.WARNING):
        module.setup()
    assert "6 of 6 forget rows" in caplog.text
    assert module.overlap.rows == 6


def test_rows_without_a_label_are_left_out_with_a_warning(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*ROWS, Example("paris", "ada " * 20, index=6)]
    module = Given({"forget": rows}, tokenizer)
    with caplog.at_level(logging.WARNING):
        module.setup()
    assert "1 of 7 forget rows are left out" in caplog.text
    assert sum(len(batch) for batch in module.stream("forget")) == 6


def test_rows_that_are_cut_are_counted(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Given({"forget": ROWS}, tokenizer, max_tokens=6).setup()
    longer = sum(len(f"{prompt} {answer}".split()) + 2 > 6 for prompt, answer in FORGET)
    assert 0 < longer < len(ROWS)
    assert f"{longer} of {len(ROWS)} forget rows are cut at max_tokens=6, and have no end" in caplog.text


def test_it_loads_once(tokenizer: PreTrainedTokenizerFast) -> None:
    module = Given({"forget": ROWS}, tokenizer)
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    assert module.loads == 1


def test_a_tokenizer_is_found_or_asked_for(tokenizer: PreTrainedTokenizerFast, model_folder: Path) -> None:
    with pytest.raises(MisconfigurationError, match="found no tokenizer"):
        Given({"forget": ROWS}, None).setup()
    assert Given({"forget": ROWS}, str(model_folder)).tokenizer.get_vocab() == tokenizer.get_vocab()  # type: ignore[arg-type]


def test_padding_falls_back_to_the_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>", unk_token="<unk>")
    batches = list(Given({"forget": ROWS}, bare).stream("forget"))
    padded = next(batch for batch in batches if not batch.attention_mask.all())
    assert (padded.input_ids[padded.attention_mask == 0] == tokenizer.eos_token_id).all()
    without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    with pytest.raises(MisconfigurationError, match="neither a padding nor an end-of-text token"):
        list(Given({"forget": ROWS}, without).stream("forget"))


def test_a_stream_is_read_once_longest_first(tokenizer: PreTrainedTokenizerFast) -> None:
    module = TinyDataModule(4, tokenizer=tokenizer)
    batches = list(module.stream("retain"))
    assert sorted(index for batch in batches for index in batch.index.tolist()) == list(range(len(RETAIN)))
    widths = [batch.input_ids.shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)
    with pytest.raises(MisconfigurationError, match="streams forget, retain, not 'holdout'"):
        next(module.stream("holdout"))


def test_it_serves_steps_without_a_trainer(tokenizer: PreTrainedTokenizerFast) -> None:
    steps = list(TinyDataModule(4, tokenizer=tokenizer).train_dataloader())
    assert [set(step.batches) for step in steps] == [{"forget", "retain"}] * 2
    assert sorted(index for step in steps for index in step.batches["forget"].index.tolist()) == list(range(6))


def test_it_keeps_the_contracts(tokenizer: PreTrainedTokenizerFast) -> None:
    module = TinyDataModule(4, tokenizer=tokenizer)
    assert isinstance(module, SuppliesProbes)
    assert isinstance(module, SuppliesStreams)
    assert [probe.name for probe in module.probes()] == ["corrupted", "control", "forget", "holdout", "retain"]


def test_hashes_name_every_stream_and_probe(tokenizer: PreTrainedTokenizerFast) -> None:
    hashes = TinyDataModule(4, tokenizer=tokenizer).data_hashes()
    assert set(hashes) == {
        "stream/forget", "stream/retain",
        "probe/corrupted", "probe/control", "probe/forget", "probe/holdout", "probe/retain",
    }  # fmt: skip
    assert hashes == TinyDataModule(2, tokenizer=tokenizer, seed=5).data_hashes()


def test_unusable_input_leaves_nothing_behind(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    trainer = make_trainer(tmp_path, logger=CSVLogger(tmp_path / "logs"))
    with pytest.raises(MisconfigurationError):
        trainer.fit(BoringModel(), datamodule=Given({"forget": ROWS, "retain": ROWS}, tokenizer))
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_of_a_resumed_datamodule_starts_at_the_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    module = TinyDataModule(2, tokenizer=tokenizer)
    module.load_state_dict({"steps_done": 2, "epoch_start": 0, "rows_per_step": 2})
    assert len(list(module.train_dataloader())) == 1
    assert len(list(module.train_dataloader())) == 3


def test_requests_cut_what_is_trained_on_and_probed(tokenizer: PreTrainedTokenizerFast) -> None:
    data = TinyDataModule(tokenizer=tokenizer, requests=2, request=1)
    assert {row.subject for row in data.loaded.streams["forget"]} < {row.subject for row in ROWS}
    assert {"corrupted", "corrupted_1", "corrupted_2", "control"} <= {probe.name for probe in data.probes()}
    assert sum(len(batch) for batch in data.stream("forget")) == len(data.loaded.streams["forget"])


def test_requests_together_and_one_after_another_within_a_run(tokenizer: PreTrainedTokenizerFast) -> None:
    def indices(**settings: Any) -> list[int]:
        return [row.index for row in TinyDataModule(2, tokenizer=tokenizer, **settings).loaded.streams["forget"]]

    assert indices(requests=2, request=[1, 2]) == list(range(len(ROWS)))
    data = TinyDataModule(2, tokenizer=tokenizer, requests=2, request=2, request_at_step={3: 1})
    assert sum(len(batch) for batch in data.stream("forget")) == len(ROWS)
    loader = data.train_dataloader()
    steps = [step for _ in range(3) for step in loader]
    assert [step.request for step in steps] == [2, 2, 2, 1, 1, 1]
    passed = [
        sorted(index for step in half for index in step.batches["forget"].index.tolist())
        for half in (steps[:2], steps[3:5])
    ]
    assert passed == [indices(requests=2, request=2), indices(requests=2, request=1)]


def test_the_logger_says_which_request_is_trained_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM
) -> None:
    module = UnlearningModule(tiny_network, tokenizer=tokenizer, forget=NPO(), micro_batches=1)
    data = TinyDataModule(2, requests=2, request=2, request_at_step={3: 1})
    trainer = make_trainer(tmp_path, max_epochs=2, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    trainer.fit(module, datamodule=data)
    rows = csv.DictReader((tmp_path / "lightning_logs" / "version_0" / "metrics.csv").open())
    assert [float(row["train/request"]) for row in rows if row["train/request"]] == [2, 2, 2, 1]


@pytest.mark.parametrize(("requests", "request_number"), [(1, 2), (2, 0), (0, 0)])
def test_a_request_out_of_range_is_refused(
    tokenizer: PreTrainedTokenizerFast, requests: int, request_number: int
) -> None:
    with pytest.raises(MisconfigurationError, match="request counts from 1 to requests"):
        TinyDataModule(tokenizer=tokenizer, requests=requests, request=request_number)


@pytest.mark.parametrize(("request_", "later"), [([1, 2], {2: 1}), (1, {0: 2}), ([], None)])
def test_targets_that_change_follow_on_one_request(
    tokenizer: PreTrainedTokenizerFast, request_: int | list[int], later: dict[int, int] | None
) -> None:
    with pytest.raises(MisconfigurationError, match="give a single request first"):
        TinyDataModule(tokenizer=tokenizer, requests=2, request=request_, request_at_step=later)
