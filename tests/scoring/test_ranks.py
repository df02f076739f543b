"""Work is dealt once, and two processes measure bit for bit what one does."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.gradient_norms import gradient_norms
from soul_lightning.scoring.ranks import Ranks, Result
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.scoring.scorer import Scorer
from soul_lightning.sharding import has_split_weights
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network, make_trainer

CONTEXTS = ("who plays the harp ? dina . ", "where does cora live ? oslo . ")
ROWS = [
    *as_examples(FORGET),
    *(Example(answer, prompt, 10 + n, context=CONTEXTS[n % 2]) for n, (prompt, answer) in enumerate(RETAIN)),
]
PROBES = {
    "rows": Probe("forget", "question", ROWS, "forget", PLAIN),
    "one row": Probe("forget", "question", ROWS[:1], "forget", PLAIN),
}
Found = dict[str, Any]


@given(work=st.lists(st.integers(), max_size=30), size=st.integers(1, 8))
def test_every_piece_is_dealt_once(work: list[int], size: int) -> None:
    shares = [Ranks(rank, size).share(work) for rank in range(size)]
    assert [shares[place % size][place // size] for place in range(len(work))] == work
    lengths = [len(share) for share in shares]
    assert sum(lengths) == len(work) and max(lengths) - min(lengths) <= 1


def test_one_process_keeps_what_it_has(tmp_path: Path, tiny_network: LlamaForCausalLM) -> None:
    results = {3: "three", 1: "one"}
    found = Ranks().gather(results)
    assert found == results and found is not results
    assert Ranks.of(make_trainer(tmp_path), tiny_network) == Ranks()
    trainer: Any = SimpleNamespace(world_size=2, global_rank=1)  # of which nobody has started the processes
    assert Ranks.of(trainer, tiny_network) == Ranks()
    assert not has_split_weights(tiny_network)


@dataclass(frozen=True)
class RecordedRanks(Ranks):
    """Remembers the places of the results that this process brought."""

    brought: list[list[int]] = field(default_factory=list)

    def gather(self, results: Mapping[int, Result]) -> dict[int, Result]:
        """As in the base class."""
        self.brought.append(sorted(results))
        return super().gather(results)


def measured(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, ranks: Ranks) -> Found:
    """Everything that processes share, of both probes."""
    adapter = CausalLMAdapter(network, tokenizer, ranks)
    found: Found = {}
    for name, probe in PROBES.items():
        scores = Scorer(adapter, token_budget=30)(probe.examples, PLAIN)
        found[f"{name}, scores"] = [
            (score.index, *(list(getattr(score.statistics, column)) for column in ("log_probs", "hits", "variances")))
            for score in scores
        ]
        found[f"{name}, answers"] = adapter.generate(probe.examples, PLAIN, 6, batch_size=3)
        found[f"{name}, norms"] = gradient_norms(adapter, probe)
    with torch.inference_mode():  # as under Trainer.validate
        model = ScoredModel(adapter, token_budget=30)
        found["inference, scores"] = {index: score.nll for index, score in model.scores(PROBES["rows"]).items()}
        found["inference, norms"] = model.gradient_norms(PROBES["rows"])
    return found


def varied_network(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """With weights so large that answers differ."""
    network = make_network(len(tokenizer))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(8) if parameter.dim() > 1 else None
    return network


def split_network(tokenizer: PreTrainedTokenizerFast, with_blocks: bool) -> LlamaForCausalLM:
    """With weights that lie in parts on two processes."""
    network, mesh = varied_network(tokenizer), init_device_mesh("cpu", (2,))
    for block in network.model.layers if with_blocks else []:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def measured_split(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, trainer: Any) -> Found:
    """What a network of split weights says; each process asks for all rows."""
    ranks = [Ranks.of(trainer, network)]
    adapter = CausalLMAdapter(network, tokenizer, ranks[0])
    scores = Scorer(adapter, token_budget=30)(ROWS, PLAIN)
    ranks.append(Ranks.of(trainer, network))  # whose root is whole after a forward pass
    answers = adapter.generate(ROWS, PLAIN, 6, batch_size=3)
    try:
        refusal = str(gradient_norms(adapter, PROBES["rows"]))
    except MisconfigurationError as error:
        refusal = str(error)
    return {"ranks": ranks, "nll": [score.nll for score in scores], "answers": answers, "refusal": refusal}


def measure(rank: int, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """What one process of two does."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", store, timedelta(seconds=120), world_size=2, rank=rank)
    trainer: Any = SimpleNamespace(world_size=2, global_rank=rank)
    network = varied_network(tokenizer)
    ranks = RecordedRanks(rank, 2)
    found = {
        "ranks": Ranks.of(trainer, network),
        "measured": measured(network, tokenizer, ranks),
        "brought": ranks.brought,
        "split": {
            with_blocks: measured_split(split_network(tokenizer, with_blocks), tokenizer, trainer)
            for with_blocks in (False, True)
        },
    }
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> list[Found]:
    """What each of two processes found; one start serves all tests."""
    folder = tmp_path_factory.mktemp("two_processes")
    spawn(measure, (folder, tokenizer), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def of_one(tokenizer: PreTrainedTokenizerFast) -> Found:
    """What one process finds."""
    return measured(varied_network(tokenizer), tokenizer, Ranks())


@pytest.mark.slow
def test_two_processes_measure_what_one_does(of_one: Found, of_two: list[Found]) -> None:
    assert len(set(of_one["rows, answers"])) > 5
    assert [own["ranks"] for own in of_two] == [Ranks(0, 2), Ranks(1, 2)]
    for own in of_two:
        assert own["measured"].keys() == of_one.keys()
        for name, expected in of_one.items():
            assert own["measured"][name] == expected, name


@pytest.mark.slow
def test_no_row_is_measured_twice(of_two: list[Found]) -> None:
    first, second = (own["brought"] for own in of_two)
    assert len(first) == len(second) == 8
    sizes = [len(ROWS)] * 3 + [1] * 3 + [len(ROWS)] * 2
    for one, other, size in zip(first, second, sizes, strict=True):
        assert sorted(one + other) == list(range(size))
        assert one and (other or size == 1)


@pytest.mark.slow
@pytest.mark.parametrize("with_blocks", [False, True])
def test_processes_that_hold_parts_of_the_weights_all_do_everything(
    of_one: Found, of_two: list[Found], with_blocks: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    scores = Scorer(CausalLMAdapter(varied_network(tokenizer), tokenizer), token_budget=30)(ROWS, PLAIN)
    for own in of_two:
        found = own["split"][with_blocks]
        assert found["ranks"] == [Ranks(), Ranks()]
        assert found["answers"] == of_one["rows, answers"]
        assert found["nll"] == pytest.approx([score.nll for score in scores], rel=1e-6)
        assert "'forget' need whole weights" in found["refusal"]
