"""What a run will hold in memory, told before it begins: counted where it can be, probed or approximated elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from soul_lightning.networks.blocks import repeated_blocks
from soul_lightning.networks.forward import head_sees_only
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.optim.curvature import SAMPLED_ROWS, GaussNewtonBartlett
from soul_lightning.protocols import SuppliesStreams
from soul_lightning.sharding import here, reshard

if TYPE_CHECKING:
    from soul_lightning.modules.base import OptimizerFactory, StreamModule
    from soul_lightning.modules.terms import Term

PROBE_TOKENS = (8, 16, 32)
"""Lengths of rows that activations are measured on: three, for what is fixed, linear and quadratic in the length."""
KEPT_FOR_DISTRIBUTIONS = 3
"""Float32 matrices of the size of the logits behind an objective that reads whole distributions: two log-softmaxes and
the gradient of one."""
DRAWN_BYTES = 24
"""Of each logit of the rows whose labels are drawn together: as float64, as probability, and cumulated."""


@dataclass(frozen=True)
class PassSize:
    """The most that goes through the network at once.

    Attributes:
        rows: Rows.
        tokens: Tokens of the longest, to which the estimate takes all to be padded: packed rows hold less.
        labelled: Labelled tokens of all rows: so many rows of logits there are.
    """

    rows: int
    tokens: int
    labelled: int


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the moment that holds most: the backward pass begins, and the optimizer has its states.

    Attributes:
        weights: All weights and buffers.
        gradients: Those of what trains, and once more of the largest weight, whose parts are added up.
        optimizer: What the optimizer keeps of what trains.
        reference: The model before training: a frozen copy, or what is cached of it.
        activations: What the blocks keep for the backward pass.
        logits: Logits at labelled positions, what the losses and the curvature keep of them, and their gradient.
        size: The pass that activations and logits are those of.
    """

    weights: int
    gradients: int
    optimizer: int
    reference: int
    activations: int
    logits: int
    size: PassSize

    @property
    def total(self) -> int:
        """All of it; the libraries and the data are not in it."""
        return self.weights + self.gradients + self.optimizer + self.reference + self.activations + self.logits


def estimate_memory(module: StreamModule, data: SuppliesStreams) -> MemoryEstimate:
    """Estimate a module's memory on one process.

    Args:
        module: With its network, on the device and in the precision that it trains in.
        data: Gives the streams, the longest rows first.
    """
    network = module.network
    trainable = module.trainable_parameters()
    gradients = sum(here(parameter).nbytes for parameter in trainable)
    if module.separates_streams:
        gradients *= 2  # each stream's by themselves
    if module.sharpness_radius is not None:
        gradients += sum(here(parameter).nbytes for parameter in trainable)  # the weights as they were
    sizes = {term.stream: largest_pass(module, data, term) for term in module.terms}
    activations = {stream: activation_bytes(network, size) for stream, size in sizes.items()}
    logits = {term.stream: _logit_bytes(module, term, sizes[term.stream]) for term in module.terms}
    together = list(sizes)
    if not module.joins_streams:
        together = [max(sizes, key=lambda stream: activations[stream] + logits[stream])]
    reshard(network)
    return MemoryEstimate(
        weights=sum(here(tensor).nbytes for tensor in (*network.parameters(), *network.buffers())),
        gradients=gradients + max(parameter.nbytes for parameter in trainable),
        optimizer=optimizer_bytes(module.optimizer_factory, trainable),
        reference=module.references.expected_bytes(module, data),
        activations=sum(activations[stream] for stream in together),
        logits=sum(logits[stream] for stream in together),
        size=PassSize(
            rows=sum(sizes[stream].rows for stream in together),
            tokens=max(sizes[stream].tokens for stream in together),
            labelled=sum(sizes[stream].labelled for stream in together),
        ),
    )


def largest_pass(module: StreamModule, data: SuppliesStreams, term: Term) -> PassSize:
    """The stream's first batch, whose rows are the longest, cut into micro-batches."""
    batch = next(iter(data.stream(term.stream)))
    part = next(batch.split(module.micro_batches)).seen_as(term.objective.views)
    texts = (part, *part.alternatives.values())
    return PassSize(
        rows=len(part) * len(texts),
        tokens=max(text.input_ids.shape[1] for text in texts),
        labelled=sum(text.labelled_tokens for text in texts),
    )


def optimizer_bytes(factory: OptimizerFactory, parameters: Iterable[Tensor]) -> int:
    """What an optimizer keeps of its parameters, found out by one step on a small one of each precision.

    An optimizer that takes no parameter but the network's own cannot be tried: that is said, and counts as 0.
    """
    kept: dict[torch.dtype, float] = {}
    total = 0.0
    for parameter in parameters:
        if parameter.dtype not in kept:
            try:
                kept[parameter.dtype] = _bytes_a_weight(factory, parameter)
            except Exception as error:  # of anybody's code, which may serve the run all the same
                rank_zero_warn(
                    f"the optimizer's states are not in the estimate of memory, for it cannot be tried on a parameter "
                    f"of no network ({type(error).__name__}: {error})"
                )
                return 0
        total += kept[parameter.dtype] * here(parameter).numel()
    return round(total)


def _bytes_a_weight(factory: OptimizerFactory, like: Tensor) -> float:
    probe = nn.Parameter(torch.ones(64, 64, dtype=like.dtype, device=here(like).device))
    probe.grad = torch.ones_like(probe)
    optimizer = factory([probe])
    optimizer.step()
    states = (value for value in optimizer.state[probe].values() if isinstance(value, Tensor))
    return sum(value.nbytes for value in states if value.dim() > 0) / probe.numel()


def activation_bytes(network: nn.Module, size: PassSize) -> int:
    """What the network keeps of a pass for its backward pass, the head left out.

    Three rows of a few tokens show what is fixed (weights in the precision of the pass), what grows with the length and
    what grows with its square (attention by a kernel that keeps all pairs). With gradient checkpointing there is, on
    top of what is kept, one block that is run again.
    """
    kept = _probed(network, size)
    checkpointed: list[Any] = [
        module for module in network.modules() if getattr(module, "gradient_checkpointing", False)
    ]
    blocks = repeated_blocks(network)
    if not checkpointed or not blocks:
        return kept
    for module in checkpointed:
        module.gradient_checkpointing = False
    try:
        whole = _probed(network, size)
    finally:
        for module in checkpointed:
            module.gradient_checkpointing = True
    return kept + max(0, whole - kept) // len(blocks)


def _probed(network: nn.Module, size: PassSize) -> int:
    points = torch.tensor(PROBE_TOKENS, dtype=torch.float64)
    measured = torch.tensor([_saved_bytes(network, tokens) for tokens in PROBE_TOKENS], dtype=torch.float64)
    powers = torch.stack([points**0, points, points**2], dim=1)
    fixed, linear, square = torch.linalg.solve(powers, measured)
    return int(fixed + size.rows * (linear * size.tokens + square * size.tokens**2))


def _saved_bytes(network: nn.Module, tokens: int) -> int:
    """What one row leaves behind, its head cut down to one position."""
    device = next(network.parameters()).device
    own = {here(tensor).untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    stored: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        gathered = isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter)  # of split weights
        if storage.data_ptr() not in own and not gathered:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.ones(1, tokens, dtype=torch.int64, device=device)
    mask, last = torch.ones_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    mask[:, -1], last[:, -1] = 0, True  # padding, as there is in most batches
    with _unnoticed(device), head_sees_only(network, last), torch.autograd.graph.saved_tensors_hooks(pack, _as_it_is):
        output = network(input_ids=ids, attention_mask=mask, use_cache=False)
    del output  # only now: a freed storage's address would be given out again
    return sum(stored.values())


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def _unnoticed(device: torch.device) -> Iterator[None]:
    """No random number is used up, and nothing is compiled for these lengths."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
        yield


def _logit_bytes(module: StreamModule, term: Term, size: PassSize) -> int:
    """The logits, their gradient, and what is made of them in float32."""
    vocabulary, item = _logits_of(module.network)
    each = 2 * item
    if term.objective.reference == "logits":
        each += 4 * KEPT_FOR_DISTRIBUTIONS
    total = size.labelled * vocabulary * each
    curvature = module.curvature
    if curvature is None or term.stream not in curvature.streams:
        return total
    refresh = size.labelled * vocabulary * (2 * item + 8)  # a log-softmax in float32, and what its backward makes
    if isinstance(curvature, GaussNewtonBartlett):
        refresh = max(refresh, vocabulary * (size.labelled * item + min(size.labelled, SAMPLED_ROWS) * DRAWN_BYTES))
    return max(total, refresh)


def _logits_of(network: nn.Module) -> tuple[int, int]:
    """The number of logits at a position, and the bytes of each in the precision of the pass."""
    ids = torch.ones(1, 1, dtype=torch.int64, device=next(network.parameters()).device)
    with torch.no_grad(), evaluation_mode(network), torch.compiler.set_stance("force_eager"):
        logits = network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits.shape[-1], logits.element_size()
