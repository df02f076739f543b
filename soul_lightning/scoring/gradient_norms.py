"""The gradient norm of each row, a score for membership attacks: small where a model has nothing left to learn."""

from __future__ import annotations

import torch

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import full_precision
from soul_lightning.progress import tracked
from soul_lightning.protocols import Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.sharding import has_split_weights


def gradient_norms(adapter: CausalLMAdapter, probe: Probe, max_tokens: int = 512) -> dict[int, float]:
    """‖∇_θ NLL/|y|‖₂ of each row, one backward pass each; no gradient is left in the weights.

    Args:
        adapter: The model; θ are its weights that train, or all of them where none does.
        probe: The rows.
        max_tokens: Longer rows are cut on the right.

    Returns:
        The norm by `Example.index`; rows without a label within `max_tokens` lack one.

    Raises:
        MisconfigurationError: The weights lie in parts on several processes, or `max_tokens` cuts away every answer.
    """
    if has_split_weights(adapter.network):  # autograd.grad would silently leave out weights that FSDP2 gathers
        raise MisconfigurationError(
            f"the gradient norms of the probe {probe.name!r} need whole weights, and those of the network lie in parts "
            f"on several processes; leave gradient norms out, or use a strategy that splits no weights"
        )
    network, pad = adapter.network, adapter.tokenizer.pad_token_id or 0
    rows = encode(probe.examples, adapter.tokenizer, probe.template, max_tokens)
    every = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    trained = [parameter for parameter in every if parameter.requires_grad]
    found: dict[int, float] = {}
    # Under Trainer.validate inference mode is on, in which nothing can be differentiated.
    with evaluation_mode(network), torch.inference_mode(False), torch.enable_grad():
        try:
            for parameter in [] if trained else every:
                parameter.requires_grad_(True)
            for place in tracked(adapter.ranks.share(range(len(rows))), "gradient norms", "rows"):
                loss = -label_predictions(network, collate([rows[place]], pad).to(adapter.device)).log_probs.mean()
                gradients = torch.autograd.grad(loss, trained or every, allow_unused=True)
                norms = [torch.linalg.vector_norm(full_precision(each)) for each in gradients if each is not None]
                found[place] = float(torch.linalg.vector_norm(torch.stack(norms)))
        finally:
            for parameter in [] if trained else every:
                parameter.requires_grad_(False)
    return {rows[place].index: norm for place, norm in sorted(adapter.ranks.gather(found).items())}
