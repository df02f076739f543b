"""Rounding a model's weights to few bits, as for deployment, which can undo unlearning (Zhang et al. 2025).

Unlearning moves weights by little, and a coarse grid may round what was moved back to where it came from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import gcd
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from soul_lightning.attacks.copies import refuse_split_weights, throw_away_copy
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.networks.linear_layers import Linear, linear_layers
from soul_lightning.networks.quantization import is_quantized, keep_differentiable
from soul_lightning.networks.saving import without_adapters

SchemeName = Literal["int8", "int4", "nf4", "bnb_int8", "torchao_int8", "torchao_int4"]
"""`int8`, `int4`: see `round_to_nearest`, by output channel and by group. `nf4`, `bnb_int8`: bitsandbytes' 4-bit
NormalFloat with double quantization, and LLM.int8(), which rounds activations too. `torchao_int8`, `torchao_int4`:
torchao's weight-only `Int8WeightOnlyConfig` and `IntxWeightOnlyConfig` (its `Int4WeightOnlyConfig` asks for a GPU)."""
PACKAGES: dict[str, tuple[str, str]] = {
    "nf4": ("bitsandbytes", "soul-lightning[qlora]"),
    "bnb_int8": ("bitsandbytes", "soul-lightning[qlora]"),
    "torchao_int8": ("torchao", "soul-lightning[torchao]"),
    "torchao_int4": ("torchao", "soul-lightning[torchao]"),
}
"""What a scheme needs: the package, and what installs it."""
LEAST_GROUP = 16
"""Fewer weights are no group for torchao; it rounds by output channel then."""


def check_schemes(schemes: Sequence[str], group_size: int, caller: str) -> None:
    """Refuse what cannot be rounded to.

    Args:
        schemes: Names of schemes.
        group_size: Weights that share a scale.
        caller: Who rounds, for the error.

    Raises:
        MisconfigurationError: There is none, one is unknown, named twice or lacks its package, or a group is no group.
    """
    known = get_args(SchemeName)
    if not schemes or not set(schemes) <= set(known) or len(set(schemes)) < len(schemes) or group_size < 2:
        raise MisconfigurationError(
            f"{caller}: schemes must be some of {', '.join(known)}, each once, and group_size >= 2, got "
            f"{list(schemes)} and {group_size}"
        )
    for scheme in schemes:
        package, extra = PACKAGES.get(scheme, ("torch", ""))
        if find_spec(package) is None:
            raise MisconfigurationError(
                f"{caller}: the scheme {scheme} needs the package {package}; install it with pip install '{extra}', or "
                f"leave the scheme out"
            )


def round_to_nearest(weight: Tensor, bits: int, group_size: int | None = None) -> Tensor:
    """Symmetric rounding to the nearest of 2^bits − 1 equally spaced values, whose largest is the largest weight.

    Of a group of weights w the step is max|w| / (2^(bits−1) − 1), and each becomes step · round(w / step). It is
    computed in float64, so that what was rounded is rounded to itself in every narrower type.

    Args:
        weight: [outputs, inputs].
        bits: Of a code, at least 2.
        group_size: So many neighbouring inputs of an output share a step; the last group of an output holds what
            remains. None for all of them.

    Returns:
        The values that the codes stand for, in the shape and type of `weight`.
    """
    largest = 2 ** (bits - 1) - 1
    groups = weight.detach().double().split(group_size or weight.shape[1], dim=1)
    return torch.cat([_on_grid(group, largest) for group in groups], dim=1).to(weight.dtype)


def _on_grid(group: Tensor, largest: int) -> Tensor:
    step = group.abs().amax(dim=1, keepdim=True) / largest
    return step * (group / step.where(step > 0, 1.0)).round()


def quantized_copy(network: nn.Module, scheme: SchemeName, group_size: int, caller: str) -> nn.Module:
    """A copy of what an export of the network would hold, its linear layers rounded.

    As in the libraries, embeddings and the output head stay as they are, and with them weights that are tied to them,
    and so do biases, norms, and weights that are no linear layer's (experts that lie stacked in one tensor).
    Adapters are merged first. Rounded weights are kept in their own type: layers compute with them as weight-only
    kernels do; `bnb_int8` alone puts the library's layers in their place.

    Args:
        network: Any causal language model; stays as it is.
        scheme: How weights are rounded; its package is there (`check_schemes`).
        group_size: So many inputs share a step in `int4` (see `round_to_nearest`) and `torchao_int4`, where it is the
            largest common divisor with the layer's inputs.
        caller: Who wants it, for the error.

    Returns:
        The copy, in evaluation mode.

    Raises:
        MisconfigurationError: The weights lie in parts on several processes, or no linear layer would be rounded.
    """
    refuse_split_weights(network, caller)
    with torch.inference_mode(False), torch.no_grad():
        inner = network.network if isinstance(network, LogitsNetwork) else network
        merged = without_adapters(inner)
        whole: Any = throw_away_copy(inner, caller) if merged is inner else merged.eval()
        if is_quantized(whole):
            whole = whole.dequantize()
        layers = dict(linear_layers(whole))
        if not layers:
            raise MisconfigurationError(
                f"{caller} rounds the weights of linear layers, and {type(inner).__name__} has none but its output "
                f"head; leave the callback out"
            )
        _round_layers(whole, layers, scheme, group_size)
    return LogitsNetwork(whole, network.logits_function) if isinstance(network, LogitsNetwork) else whole


def _round_layers(network: nn.Module, layers: dict[str, Linear], scheme: SchemeName, group_size: int) -> None:
    rounded = _VALUES.get(scheme)
    for name, layer in layers.items():
        is_transposed = isinstance(layer, Conv1D)  # [inputs, outputs]
        weight = layer.weight.detach().T.contiguous() if is_transposed else layer.weight.detach()
        if rounded is None:
            network.set_submodule(name, _llm_int8(weight, layer.bias))
        else:
            values = rounded(weight, group_size)
            layer.weight.copy_(values.T if is_transposed else values)
    keep_differentiable(network)


def _nf4(weight: Tensor, _group_size: int) -> Tensor:
    from bitsandbytes import functional

    # As one row: on a CPU 0.50.2 turns back matrices wrongly whose rows are no whole number of blocks of 64.
    row = weight.float().reshape(-1)
    codes, state = functional.quantize_4bit(row, quant_type="nf4", compress_statistics=True)
    values: Tensor = functional.dequantize_4bit(codes, state)
    return values.reshape(weight.shape).to(weight.dtype)


def _llm_int8(weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    # It says at every layer of every pass that it casts.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

    outputs, inputs = weight.shape
    layer: Any = Linear8bitLt(inputs, outputs, bias=bias is not None, has_fp16_weights=False)
    layer.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.bias = bias
    moved: nn.Module = layer.to(weight.device)  # which is when it rounds
    return moved.eval()


def _torchao(weight: Tensor, configuration: Any) -> Tensor:
    from torchao.quantization import quantize_

    layer: Any = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(layer, configuration)
    values: Tensor = layer.weight.dequantize()
    return values.to(weight.dtype)


def _torchao_int8(weight: Tensor, _group_size: int) -> Tensor:
    from torchao.quantization import Int8WeightOnlyConfig

    return _torchao(weight, Int8WeightOnlyConfig())


def _torchao_int4(weight: Tensor, group_size: int) -> Tensor:
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup

    size = gcd(group_size, weight.shape[1])
    granularity = PerGroup(size) if size >= LEAST_GROUP else PerAxis(0)
    types: Any = torch  # whose stubs know no int4
    return _torchao(weight, IntxWeightOnlyConfig(weight_dtype=types.int4, granularity=granularity))


_VALUES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "int8": lambda weight, _: round_to_nearest(weight, 8),
    "int4": lambda weight, group_size: round_to_nearest(weight, 4, group_size),
    "nf4": _nf4,
    "torchao_int8": _torchao_int8,
    "torchao_int4": _torchao_int4,
}
"""Rounded weights [outputs, inputs] of weights; `bnb_int8` is not among them, for it rounds activations too."""
