"""MembershipInference and Utility in whole fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import Callback
from torch.optim import AdamW
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import MembershipInference, Utility
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.likelihood import perplexity
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scorer import Scorer
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

FORGET_PROBE = Probe("forget", "text", as_examples(FORGET), "forget", PLAIN)
RETAIN_PROBE = Probe("retain", "text", as_examples(RETAIN), "retain", PLAIN)
HOLDOUT_PROBE = Probe("holdout", "text", as_examples(RETAIN), "holdout", PLAIN)


def retain_only(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> UnlearningModule:
    optimizer = lambda parameters: AdamW(parameters, lr=1e-2)  # noqa: E731
    return UnlearningModule(network, retain=CrossEntropy(), tokenizer=tokenizer, optimizer=optimizer)


def test_training_on_the_forget_rows_makes_them_members(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = MembershipInference(probes=[FORGET_PROBE, HOLDOUT_PROBE])
    # Trained on the rows that the probes call holdout: these become likely, and forget stands out.
    trainer = make_trainer(tmp_path, max_epochs=12, callbacks=[callback])
    trainer.fit(retain_only(tiny_network, tokenizer), TinyDataModule(streams=("retain",)))
    final = callback.summary()
    area, low, high = (final[f"membership/loss_auc{end}"] for end in ("", "_low", "_high"))
    assert area is not None and low is not None and high is not None
    assert low <= area <= high and area < 0.2
    assert trainer.callback_metrics["membership/loss_auc"] == pytest.approx(area)


def test_a_missing_holdout_is_said_before_training(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[MembershipInference(probes=[FORGET_PROBE])])
    with pytest.raises(MisconfigurationError, match="none of the role holdout"):
        trainer.fit(retain_only(tiny_network, tokenizer), TinyDataModule())


def test_utility_levels_and_their_ratio_to_before(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    held_out = Probe("text", "text", as_examples(FORGET), "utility", PLAIN)
    before = Scorer(CausalLMAdapter(tiny_network, tokenizer))(RETAIN_PROBE.examples, PLAIN)
    callback = Utility(probes=[RETAIN_PROBE, held_out], before_training=False)
    module = retain_only(tiny_network, tokenizer)
    make_trainer(tmp_path, max_epochs=3, callbacks=[callback]).fit(module, TinyDataModule())
    after = Scorer(CausalLMAdapter(module.network, tokenizer))(RETAIN_PROBE.examples, PLAIN)
    levels = [perplexity([row.nll for row in rows], [row.tokens for row in rows]) for rows in (before, after)]
    summary = callback.summary()
    assert summary["utility/retain_perplexity"] == pytest.approx(levels[1], rel=1e-4)
    assert summary["utility/retain_perplexity_relative"] == pytest.approx(levels[1] / levels[0], rel=1e-4)
    relative = summary["utility/retain_probability_relative"]
    assert relative is not None and relative > 1
    assert {"utility/text_perplexity", "utility/text_perplexity_relative", "utility/text_probability"} <= set(summary)
    assert not any(name.startswith("utility/before/") and name.endswith("_relative") for name in summary)


def test_a_resumed_run_compares_with_the_same_values(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    straight = Utility(probes=[RETAIN_PROBE])
    make_trainer(tmp_path, max_epochs=2, callbacks=[straight]).fit(
        retain_only(make_network(len(tokenizer)), tokenizer), TinyDataModule(streams=("retain",))
    )
    first = Utility(probes=[RETAIN_PROBE])
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[first, _StopAfterOneEpoch(tmp_path / "one.ckpt")])
    trainer.fit(retain_only(tiny_network, tokenizer), TinyDataModule(streams=("retain",)))
    second = Utility(probes=[RETAIN_PROBE])
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[second])
    trainer.fit(
        retain_only(make_network(len(tokenizer), 7), tokenizer),
        TinyDataModule(streams=("retain",)),
        ckpt_path=tmp_path / "one.ckpt",
    )
    assert second.summary() == pytest.approx(straight.summary())


class _StopAfterOneEpoch(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 0:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path)  # type: ignore[attr-defined]


def test_they_share_one_pass(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Two callbacks on the same rows run the network as often as one."""
    runs = []
    for callbacks in (
        [Utility(probes=[RETAIN_PROBE])],
        [Utility(probes=[RETAIN_PROBE]), Utility("u", probes=[RETAIN_PROBE])],
    ):
        network = make_network(len(tokenizer))
        calls: list[bool] = []
        network.register_forward_hook(lambda module, args, output, calls=calls: calls.append(module.training))
        make_trainer(tmp_path, callbacks=list(callbacks)).fit(retain_only(network, tokenizer), TinyDataModule())
        runs.append(calls.count(False))
    assert runs[0] == runs[1] > 0


def test_utility_without_a_set_is_refused(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[Utility(probes=[FORGET_PROBE])])
    with pytest.raises(MisconfigurationError, match="role retain or utility"):
        trainer.fit(retain_only(tiny_network, tokenizer), TinyDataModule())
