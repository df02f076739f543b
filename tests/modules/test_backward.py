"""Which passes through the network a step takes, and that they are as good as one for each stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.networks import joint
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.objectives import NPO, CrossEntropy, KLDivergence
from tests.conftest import TinyDataModule, make_network, make_trainer


def trained(folder: Path, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> list[int]:
    """Passes with a gradient in each of two steps; cached references are asked before."""
    passes: list[int] = []

    def count(_module: object, _args: object) -> None:
        if torch.is_grad_enabled() and module.trainer.global_step < 2 and module.training:
            passes.append(module.trainer.global_step)

    module = UnlearningModule(network, NPO(0.5), CrossEntropy(), tokenizer=tokenizer, **settings)
    hook = network.register_forward_pre_hook(count)
    make_trainer(folder, max_steps=2).fit(module, datamodule=TinyDataModule(4))
    hook.remove()
    return [passes.count(step) for step in (0, 1)]


CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 1]),
    ({"micro_batches": 2}, [2, 2]),
    ({"gradient_surgery": "gru"}, [2, 2]),
    ({"sharpness_radius": 0.1}, [3, 3]),
    ({"sharpness_radius": 0.1, "optimizer": Sophia, "curvature": GaussNewtonBartlett(10)}, [3, 3]),
    # Retain's graph serves the refresh and the loss; forget has a pass of its own then.
    ({"optimizer": Sophia, "curvature": GaussNewtonBartlett(10)}, [2, 1]),
    ({"optimizer": Sophia, "curvature": GaussNewtonBartlett(10), "micro_batches": 2}, [4, 2]),
]


@pytest.mark.parametrize(("settings", "expected"), CASES)
def test_passes_of_a_step(
    tmp_path: Path,
    tiny_network: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: dict[str, Any],
    expected: list[int],
) -> None:
    assert trained(tmp_path, tiny_network, tokenizer, **settings) == expected


def test_streams_take_turns_where_most_weights_are_frozen(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    adapted = cast("PreTrainedModel", _add_lora(tiny_network, LoraSettings(r=2)))
    assert trained(tmp_path, adapted, tokenizer) == [2, 2]


@pytest.mark.parametrize("curvature", [None, GaussNewtonBartlett(2, source="both")])
def test_packed_or_padded_the_weights_come_out_alike(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    curvature: GaussNewtonBartlett | None,
) -> None:
    def weights() -> dict[str, torch.Tensor]:
        module = UnlearningModule(
            make_network(len(tokenizer)),
            NPO(0.5, "token"),
            KLDivergence(),
            optimizer=lambda parameters: Sophia(parameters, lr=1e-4),
            curvature=curvature,
            tokenizer=tokenizer,
        )
        make_trainer(tmp_path, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
        return {name: value.detach().clone() for name, value in module.network.named_parameters()}

    packed = weights()
    monkeypatch.setattr(joint, "packed_layout", lambda network: None)
    for name, value in weights().items():
        torch.testing.assert_close(packed[name], value, rtol=0, atol=1e-6, msg=f"{name}: {{}}".format)
