"""One model asked by many: every pass runs once a step, other answers score as they would alone, training goes on."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.gradient_norms import gradient_norms
from soul_lightning.scoring.scored_model import ScoredModel, drop_scores
from soul_lightning.scoring.scorer import ExampleScore, Scorer
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network, make_trainer

FALSE = ("rome and oslo", "oslo", "harp")
ROWS = [
    Example("paris", "ada lives in", 3, perturbed=FALSE, paraphrase="the paris"),
    Example("pilot", "bela works as a", 1, perturbed=FALSE[:1]),
    Example("cello", "dina plays the", 4, paraphrase="cello and harp"),
    Example("oboe", "egon plays the", 0),
    Example("judge", "cora works as a", 2, perturbed=FALSE[1:], paraphrase="tailor"),
]
PROBE = Probe("forget", "question", ROWS, "forget", PLAIN)


@pytest.fixture
def adapter(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> CausalLMAdapter:
    return CausalLMAdapter(tiny_network, tokenizer)


@pytest.fixture
def passes(tiny_network: LlamaForCausalLM) -> Iterator[list[torch.Size]]:
    """Grows with every forward pass of the tiny network."""
    sizes: list[torch.Size] = []

    def record(module: nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        sizes.append(kwargs["input_ids"].shape)

    hook = tiny_network.register_forward_pre_hook(record, with_kwargs=True)
    yield sizes
    hook.remove()


def ask_all(model: ScoredModel) -> None:
    """Everything that can be asked."""
    model.scores(PROBE)
    model.alternatives(PROBE)
    model.score_texts(as_examples(RETAIN), PROBE)
    model.gradient_norms(PROBE)
    model.answers(PROBE, 3)


QUESTIONS: dict[str, Callable[[ScoredModel], object]] = {
    "scores": lambda model: model.scores(PROBE),
    "alternatives": lambda model: model.alternatives(PROBE),
    "score_texts": lambda model: model.score_texts(as_examples(RETAIN), PROBE),
    "gradient_norms": lambda model: model.gradient_norms(PROBE),
    "answers": lambda model: model.answers(PROBE, 3),
    "all": ask_all,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_pass_runs_once_a_step_whoever_asks(
    adapter: CausalLMAdapter,
    passes: list[torch.Size],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    question: str,
) -> None:
    ask, step = QUESTIONS[question], 0
    monkeypatch.setattr(Trainer, "global_step", property(lambda _: step))
    trainer = make_trainer(tmp_path)

    def runs(model: ScoredModel) -> int:
        before = len(passes)
        ask(model)
        return len(passes) - before

    def asker(**settings: Any) -> ScoredModel:
        return ScoredModel.in_training(trainer, adapter, **settings)

    first = runs(asker())
    assert first > 0
    assert runs(asker()) == 0
    twin = CausalLMAdapter(adapter.network, adapter.tokenizer)
    assert runs(ScoredModel.in_training(trainer, twin, token_budget=64)) == 0
    assert runs(ScoredModel.in_training(make_trainer(tmp_path), adapter)) == first  # another trainer's weights
    step = 1
    assert runs(asker()) == first
    drop_scores(trainer)
    assert runs(asker()) == first
    drop_scores(make_trainer(tmp_path))
    assert runs(asker()) == 0
    alone = ScoredModel(adapter)
    assert runs(alone) == first
    assert runs(alone) == 0


def test_what_changes_a_number_is_asked_anew(
    adapter: CausalLMAdapter, passes: list[torch.Size], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path)
    model = ScoredModel.in_training(trainer, adapter)
    ask_all(model)

    def is_new(ask: Callable[..., object], *asked: Any, **settings: Any) -> bool:
        before = len(passes)
        ask(*asked, **settings)
        return len(passes) > before

    cut = ScoredModel.in_training(trainer, adapter, max_tokens=6)
    other_rows = replace(PROBE, examples=[replace(ROWS[0], answer="rome"), *ROWS[1:]])
    other_template = replace(PROBE, template=replace(PLAIN, end_of_text=False))
    for asked, probe in ((cut, PROBE), (model, other_rows), (model, other_template)):
        assert is_new(asked.scores, probe)
        assert is_new(asked.gradient_norms, probe)
    assert not is_new(model.scores, replace(PROBE, name="the same rows", role="retain"))
    assert is_new(model.answers, PROBE, 4)
    assert is_new(model.answers, PROBE, 3, stop="paris")
    assert not is_new(model.answers, PROBE, 3, batch_size=2)
    other = CausalLMAdapter(make_network(len(tokenizer), seed=1), tokenizer)
    assert ScoredModel.in_training(trainer, other).scores(PROBE)[3].nll != model.scores(PROBE)[3].nll


def test_what_was_found_does_not_keep_a_trainer_alive(adapter: CausalLMAdapter, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    gone = ref(trainer)
    ask_all(ScoredModel.in_training(trainer, adapter))
    del trainer
    gc.collect()
    assert gone() is None


def alone(adapter: CausalLMAdapter, row: Example, answer: str) -> ExampleScore:
    """The score of one text in a batch of its own."""
    return Scorer(adapter)([Example(answer, row.prompt, context=row.context)], PLAIN)[0]


def assert_same(score: ExampleScore, expected: ExampleScore) -> None:
    assert score.tokens == expected.tokens
    torch.testing.assert_close(score.statistics.log_probs, expected.statistics.log_probs, rtol=1e-4, atol=1e-5)
    assert torch.equal(score.statistics.hits, expected.statistics.hits)


@pytest.mark.parametrize("token_budget", [1, 40, 2048])
def test_each_answer_scores_as_it_would_alone(adapter: CausalLMAdapter, token_budget: int) -> None:
    model = ScoredModel(adapter, token_budget)
    own, others = model.scores(PROBE), model.alternatives(PROBE)
    assert sorted(own) == [0, 1, 2, 3, 4]
    assert sorted(others) == [1, 2, 3, 4]  # row 0 has one answer only
    for row in ROWS:
        assert own[row.index].index == row.index
        assert_same(own[row.index], alone(adapter, row, row.answer))
        if row.index not in others:
            continue
        found = others[row.index]
        assert (found.paraphrase is None) == (row.paraphrase is None)
        if row.paraphrase is not None and found.paraphrase is not None:
            assert_same(found.paraphrase, alone(adapter, row, row.paraphrase))
        for score, answer in zip(found.perturbed, row.perturbed, strict=True):
            assert_same(score, alone(adapter, row, answer))


def test_rows_without_other_answers_need_no_pass(adapter: CausalLMAdapter, passes: list[torch.Size]) -> None:
    model = ScoredModel(adapter)
    assert model.alternatives(replace(PROBE, examples=as_examples([]))) == {}
    assert model.alternatives(replace(PROBE, examples=[ROWS[3]])) == {}
    assert model.scores(replace(PROBE, examples=[])) == {}
    assert not passes


def test_rows_that_are_cut_away_are_left_out_everywhere(adapter: CausalLMAdapter) -> None:
    long = replace(ROWS[0], prompt="who is " * 20, index=9)
    probe = replace(PROBE, examples=[long, *ROWS])
    model = ScoredModel(adapter, max_tokens=8)
    assert sorted(model.scores(probe)) == [0, 1, 2, 3, 4]
    assert sorted(model.alternatives(probe)) == [1, 2, 3, 4]
    assert sorted(model.gradient_norms(probe)) == [0, 1, 2, 3, 4]
    assert sorted(model.score_texts([long, ROWS[1]], PROBE)) == [1]


def test_other_texts_are_written_as_the_probes_are(adapter: CausalLMAdapter) -> None:
    rows = as_examples(RETAIN)
    found = ScoredModel(adapter).score_texts(rows, PROBE)
    expected = Scorer(adapter)(rows, PLAIN)
    assert [found[row.index].nll for row in rows] == [score.nll for score in expected]
    assert expected[0].nll != Scorer(adapter)(rows)[0].nll  # the default template is another one


def test_answers_and_norms_are_the_adapters(adapter: CausalLMAdapter) -> None:
    model = ScoredModel(adapter)
    probe = replace(PROBE, examples=as_examples(FORGET + RETAIN))
    answers = adapter.generate(probe.examples, PLAIN, 8, stop=None)
    assert model.answers(probe, 8) == answers
    word = max(set(" ".join(answers).split()), key=" ".join(answers).count)
    assert model.answers(probe, 8, stop=word) == adapter.generate(probe.examples, PLAIN, 8, stop=word) != answers
    assert model.gradient_norms(probe) == gradient_norms(adapter, probe)


@pytest.mark.parametrize("question", QUESTIONS)
def test_training_goes_on_as_if_nobody_had_asked(
    adapter: CausalLMAdapter, tiny_network: LlamaForCausalLM, tmp_path: Path, question: str
) -> None:
    def draw(*_: object) -> None:
        torch.rand(3), np.random.rand(), random.random()

    hook = tiny_network.register_forward_pre_hook(draw)
    tiny_network.train()
    tiny_network.model.norm.eval()
    tiny_network.model.layers[0].requires_grad_(False)
    tiny_network.model.norm.weight.grad = torch.ones_like(tiny_network.model.norm.weight)
    modes = [module.training for module in tiny_network.modules()]
    trained = [parameter.requires_grad for parameter in tiny_network.parameters()]
    weights = [parameter.clone() for parameter in tiny_network.parameters()]

    def seed() -> None:
        torch.manual_seed(1), np.random.seed(1), random.seed(1)

    seed()
    expected = (torch.rand(1).item(), np.random.rand(), random.random())
    seed()
    QUESTIONS[question](ScoredModel.in_training(make_trainer(tmp_path), adapter))
    hook.remove()
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert [module.training for module in tiny_network.modules()] == modes
    assert [parameter.requires_grad for parameter in tiny_network.parameters()] == trained
    for parameter, weight in zip(tiny_network.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
        if parameter is not tiny_network.model.norm.weight:
            assert parameter.grad is None
    assert torch.equal(tiny_network.model.norm.weight.grad, torch.ones(32))
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_passes_run_in_the_precision_of_the_run(adapter: CausalLMAdapter, tmp_path: Path) -> None:
    exact = ScoredModel(adapter)
    mixed = ScoredModel.in_training(make_trainer(tmp_path, precision="bf16-mixed"), adapter)
    assert all(score.statistics.log_probs.dtype == torch.float32 for score in mixed.scores(PROBE).values())
    nlls = [{index: score.nll for index, score in model.scores(PROBE).items()} for model in (exact, mixed)]
    assert nlls[1] == pytest.approx(nlls[0], rel=0.05) and nlls[1] != nlls[0]
    norms = [model.gradient_norms(PROBE) for model in (exact, mixed)]
    assert norms[1] == pytest.approx(norms[0], rel=0.1) and norms[1] != norms[0]
