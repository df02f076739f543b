"""No attack touches the model that it attacks, also when it ends in the middle."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from soul_lightning import callbacks
from soul_lightning.attacks.copies import fingerprint
from soul_lightning.callbacks.attack import AttackCallback
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel
from tests.attacks.interrupted import ATTACKS, SIGNALS
from tests.attacks.passes import Passes
from tests.conftest import TinyDataModule, make_network, make_trainer

ROOT = Path(__file__).parents[2]
NAMES = [attack["class_path"] for attack in ATTACKS]


@pytest.mark.slow
def test_a_folder_is_left_alone_by_attacks_that_are_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.interrupted"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    cases = ["whole", *(sent.name for sent in SIGNALS)]
    assert lines == [[name, case, "left alone"] for name in NAMES for case in cases]


def attack_of(described: dict[str, Any]) -> AttackCallback:
    kind: type[AttackCallback] = getattr(callbacks, described["class_path"])
    return kind(**copy.deepcopy(described["init_args"]))


def module_of(tokenizer: PreTrainedTokenizerFast) -> UnlearningModule:
    return UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)


@pytest.mark.parametrize("described", ATTACKS, ids=NAMES)
def test_an_attack_that_fails_in_the_middle_leaves_the_network_as_it_was(
    described: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    module, counting = module_of(tokenizer), Passes()
    before, states = fingerprint(module.network), []
    for added in ([], [attack_of(described)]):  # a loop of Lightning's own draws a number, too
        torch.manual_seed(0)
        with counting.counted():
            make_trainer(tmp_path, callbacks=added).test(module, TinyDataModule(), verbose=False)
        states.append(torch.get_rng_state())
    assert fingerprint(module.network) == before
    assert torch.equal(*states)

    def fail() -> None:
        raise ZeroDivisionError

    failing = Passes(counting.count // 2, fail)
    with failing.counted(), pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path, callbacks=[attack_of(described)]).test(module, TinyDataModule(), verbose=False)
    assert 0 < failing.count < counting.count
    assert fingerprint(module.network) == before
    assert not any(weight.grad is not None for weight in module.network.parameters())


class Careless(AttackCallback):
    """Works on the model itself."""

    def attack(self, model: ScoredModel) -> list[MeasuredRow]:
        with torch.no_grad():
            next(model.adapter.network.parameters()).view(-1)[0] += 1e-6
        return []

    def summarize(self, rows: Any, others: Any) -> dict[str, float | None]:
        return {}

    def findings(self) -> list[Any]:
        return []


def test_an_attack_that_changes_a_weight_is_found_out(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callbacks=[Careless("careless")])
    with pytest.raises(RuntimeError, match="an attack has changed the model that it attacks"):
        trainer.validate(module_of(tokenizer), TinyDataModule(), verbose=False)
