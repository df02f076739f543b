"""The gradient norm of each row, a score for membership attacks: small where a model has nothing left to learn."""

from __future__ import annotations

import torch

from soul_lightning.encoding import collate, encode
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.protocols import Probe
from soul_lightning.scoring.adapter import CausalLMAdapter


def gradient_norms(adapter: CausalLMAdapter, probe: Probe, max_tokens: int = 512) -> dict[int, float]:
    """‖∇_θ NLL/|y|‖₂ of each row, one backward pass each; no gradient is left in the weights.

    Args:
        adapter: The model; θ are its weights that train, or all of them where none does.
        probe: The rows.
        max_tokens: Longer rows are cut on the right.

    Returns:
        The norm by `Example.index`; rows without a label within `max_tokens` lack one.
    """
    network, pad = adapter.network, adapter.tokenizer.pad_token_id or 0
    rows = encode(probe.examples, adapter.tokenizer, probe.template, max_tokens)
    every = list(network.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    found: dict[int, float] = {}
    # Under Trainer.validate inference mode is on, in which nothing can be differentiated.
    with evaluation_mode(network), torch.inference_mode(False), torch.enable_grad():
        for parameter in [] if trained else every:
            parameter.requires_grad_(True)
        try:
            for place in adapter.ranks.share(range(len(rows))):
                loss = -label_predictions(network, collate([rows[place]], pad).to(adapter.device)).log_probs.mean()
                gradients = torch.autograd.grad(loss, trained or every, allow_unused=True)
                norms = [torch.linalg.vector_norm(each.float()) for each in gradients if each is not None]
                found[place] = float(torch.linalg.vector_norm(torch.stack(norms)))
        finally:
            for parameter in [] if trained else every:
                parameter.requires_grad_(False)
    return {rows[place].index: norm for place, norm in sorted(adapter.ranks.gather(found).items())}
