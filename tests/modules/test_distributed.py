"""Strategies that the loop cannot follow are refused in one sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from transformers import PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Hutchinson, InfluenceUnlearningModule, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.objectives import NPO
from tests.conftest import make_network


def with_strategy(module: StreamModule, strategy: type[Strategy], matrices_over: int = 1) -> StreamModule:
    """The module as `setup` would find it; none of these strategies starts here without processes or packages."""
    made = strategy.__new__(strategy)
    module.trainer = cast("Any", SimpleNamespace(strategy=made, precision="32-true"))
    if strategy is ModelParallelStrategy:
        sizes = {"data_parallel": 2, "tensor_parallel": matrices_over}
        meshes = {name: SimpleNamespace(size=lambda size=size: size) for name, size in sizes.items()}
        module._device_mesh = cast("Any", meshes)
    return module


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy])
def test_engines_that_hide_the_gradients(tokenizer: PreTrainedTokenizerFast, strategy: type[Strategy]) -> None:
    module = UnlearningModule(make_network(len(tokenizer)), NPO(), tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match=f"{strategy.__name__} hides the gradients.*ModelParallelStrategy"):
        with_strategy(module, strategy).setup("fit")


def test_what_split_weights_cannot_do(tokenizer: PreTrainedTokenizerFast) -> None:
    network = make_network(len(tokenizer))
    accepted = UnlearningModule(network, NPO(), curvature=GaussNewtonBartlett(), tokenizer=tokenizer)
    with_strategy(accepted, ModelParallelStrategy).setup("fit")
    with pytest.raises(MisconfigurationError, match="set its tensor_parallel_size to 1"):
        with_strategy(accepted, ModelParallelStrategy, matrices_over=2).setup("fit")
    twice = UnlearningModule(network, NPO(), curvature=Hutchinson(), tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match="Hutchinson differentiates twice"):
        with_strategy(twice, ModelParallelStrategy).setup("fit")
    influence = InfluenceUnlearningModule(network, tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match="InfluenceUnlearningModule reads whole weights"):
        with_strategy(influence, ModelParallelStrategy).setup("fit")
    rounded = PretrainedNetwork("somewhere", lora=LoraSettings(), quantization="nf4")
    with pytest.raises(MisconfigurationError, match=r"those of network.quantization do not allow; use ddp"):
        with_strategy(UnlearningModule(rounded, NPO()), ModelParallelStrategy).setup("fit")
