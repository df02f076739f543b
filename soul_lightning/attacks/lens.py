"""What a network would say if it ended behind an earlier layer: logit lens and tuned lens.

The logit lens (nostalgebraist 2020) takes the hidden states behind a block to the final norm and the output head as
though it were the last block. The tuned lens (Belrose et al. 2023) first moves them by an affine translator of each
layer, learned on the frozen network to say what the last layer says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from soul_lightning.attacks.forgotten import KEPT_ROLES
from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions, full_precision, predicting_positions
from soul_lightning.progress import tracked
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.layers import batches_by_length, blocks_of, layer_states, states_of
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.sharding import has_split_weights
from soul_lightning.templates import PromptTemplate

LensKind = Literal["none", "logit", "tuned"]
POSITIONS = 256
"""At so many positions at once all words are spoken of."""
TRIAL_TOKENS = 6
NEAR = 0.02
"""Relative distance of logits that half precision explains."""


class Ending:
    """A network from behind its last block on: final norm, head, and whatever it does to logits.

    The network is called itself, on one token, and what comes out of its last block is replaced: so the ending is its
    own in every architecture, whatever its parts are called.

    Args:
        network: A causal language model.

    Raises:
        MisconfigurationError: The blocks are not found, what follows them does not make the network's logits, or the
            weights lie in parts on several processes.
    """

    def __init__(self, network: nn.Module) -> None:
        if has_split_weights(network):
            raise MisconfigurationError(
                "a lens needs whole weights, and those of the network lie in parts on several processes; look at the "
                "exported model on one device, or set lens to none"
            )
        self._network = network
        self._device = next(network.parameters()).device
        self._block = blocks_of(network)[-1]
        if not self._is_the_networks_own():
            raise MisconfigurationError(
                f"a lens needs to know what follows the last block, which cannot be found in {type(network).__name__}; "
                f"set lens to none"
            )

    def __call__(self, states: Tensor) -> Tensor:
        """[positions, vocabulary] logits of [positions, width] hidden states."""

        def instead(_block: nn.Module, _args: Any, output: Any) -> Any:
            given = states.unsqueeze(1).to(states_of(output).dtype)
            return given if isinstance(output, Tensor) else (given, *output[1:])

        one = torch.ones((1, 1), dtype=torch.int64, device=self._device)
        with _hooked(self._block, instead):
            logits: Tensor = self._network(input_ids=one, attention_mask=one, use_cache=False).logits
        return logits.squeeze(1)

    @torch.no_grad()
    def _is_the_networks_own(self) -> bool:
        seen: list[Any] = []
        ids = torch.arange(3, 3 + TRIAL_TOKENS, device=self._device).unsqueeze(0)
        with evaluation_mode(self._network):
            with _hooked(self._block, lambda _block, _args, output: seen.append(states_of(output)[0])):
                logits = self._network(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
            again = self(seen[0])
        return again.shape == logits.shape and float((again - logits).norm()) <= NEAR * float(logits.norm())


@contextmanager
def _hooked(block: nn.Module, hook: Any) -> Iterator[None]:
    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class LensTraining:
    """How the translators of a tuned lens are learned.

    Attributes:
        steps: Optimizer steps (Adam).
        tokens: Positions of each step.
        rate: Learning rate of the first step, times the network's width; it falls to 0.
        seed: Of the texts and positions of each step.
    """

    steps: int = 50
    tokens: int = 64
    rate: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what learns nothing."""
        if self.steps < 1 or self.tokens < 1 or self.rate <= 0:
            raise MisconfigurationError(
                f"lens_training needs steps and tokens >= 1 and a rate above 0, got {self.steps}, {self.tokens} and "
                f"{self.rate}"
            )


class Translators(nn.Module):
    """One affine map a layer, h ↦ h + W h + b, the identity at first.

    Args:
        layers: How many layers have one: all but the last.
        width: Of the hidden states.
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(width, width) for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(layers))

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """[positions, width] of layer `layer` as the last layer would have them; float32."""
        states = states.float()
        moved: Tensor = states + states @ self.weights[layer].T + self.biases[layer]
        return moved


def lens_texts(probes: Sequence[Probe]) -> list[Probe]:
    """What translators learn from: texts and questions that the model may know, never what is forgotten."""
    return [
        probe
        for probe in probes
        if probe.role in KEPT_ROLES and probe.kind in ("question", "text") and not probe.rows_of and probe.examples
    ]


def learn_translators(
    model: ScoredModel, ending: Ending, probes: Sequence[Probe], training: LensTraining
) -> Translators:
    """Learn translators that bring each layer's distribution near the last one's, KL(last ‖ layer) in nats.

    The network's weights have no part in it. Every process learns the same.

    Args:
        model: The model.
        ending: Of its network.
        probes: Texts; all their positions are learned from.
        training: How.
    """
    adapter = model.adapter
    rows = [
        row
        for probe in probes
        for row in encode(probe.examples, adapter.tokenizer, replace(probe.template, labels="all"), model.max_tokens)
    ]
    generator = torch.Generator().manual_seed(training.seed)
    translators: Translators | None = None
    with model.isolation(), evaluation_mode(adapter.network), torch.inference_mode(False):
        for _ in tracked(range(training.steps), "learning the lens", "steps"):
            chosen, tokens = [], 0
            for place in torch.randperm(len(rows), generator=generator).tolist():
                chosen.append(rows[place])
                tokens += len(rows[place]) - 1
                if tokens >= training.tokens:
                    break
            batch = collate(chosen, adapter.tokenizer.pad_token_id or 0).to(adapter.device)
            with torch.no_grad():
                layers, logits = layer_states(adapter.network, batch, predicting_positions(batch.labels))
                drawn = torch.randperm(len(logits), generator=generator)[: training.tokens].to(adapter.device)
                said = full_precision(logits[drawn]).log_softmax(dim=-1)
            if translators is None:
                translators = Translators(len(layers) - 1, layers[0].shape[1]).to(adapter.device)
                optimizer = torch.optim.Adam(translators.parameters(), lr=training.rate / layers[0].shape[1])
                schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=training.steps)
            with torch.enable_grad():
                for layer, states in enumerate(layers[:-1]):
                    other = full_precision(ending(translators(layer, states[drawn]))).log_softmax(dim=-1)
                    loss = nn.functional.kl_div(other, said, log_target=True, reduction="batchmean")
                    own = [translators.weights[layer], translators.biases[layer]]
                    for parameter, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                        parameter.grad = gradient
            optimizer.step()
            schedule.step()
    assert translators is not None
    return translators.requires_grad_(False)


class Lens:
    """Reads each layer of a model.

    Args:
        model: The model; what the lens learns is of its weights as they are now.
        texts: What the translators of a tuned lens learn from, see `lens_texts`.
        kind: `logit` or `tuned`.
        training: Of a tuned lens.

    Raises:
        MisconfigurationError: See `Ending`.
    """

    def __init__(self, model: ScoredModel, texts: Sequence[Probe], kind: LensKind, training: LensTraining) -> None:
        self._model = model
        with model.isolation():
            self._ending = Ending(model.adapter.network)
        tuned = kind == "tuned"
        self._translators = learn_translators(model, self._ending, texts, training) if tuned else None

    @torch.no_grad()
    def scores(self, examples: Sequence[Example], template: PromptTemplate) -> dict[int, list[float]]:
        """Mean token log-probability of each row's answer as each layer sees it, in nats.

        Args:
            examples: The rows; the model's processes share their batches.
            template: How they are written.

        Returns:
            By `Example.index`, of the embeddings and behind each block, the last as the model itself has it; rows
            without a label within `max_tokens` are left out.
        """
        adapter = self._model.adapter
        rows = encode(examples, adapter.tokenizer, template, self._model.max_tokens)
        pad = adapter.tokenizer.pad_token_id or 0
        found: dict[int, list[float]] = {}
        with self._model.isolation(), evaluation_mode(adapter.network):
            own_batches = adapter.ranks.share(list(batches_by_length(rows, self._model.token_budget)))
            for places in tracked(own_batches, "reading layers", "rows", len):
                batch = collate([rows[place] for place in places], pad).to(adapter.device)
                layers, logits = layer_states(adapter.network, batch, predicting_positions(batch.labels))
                own = Predictions.from_logits(logits, batch.labels)
                log_probs = [self._log_probs(layer, states, own.targets) for layer, states in enumerate(layers[:-1])]
                means = torch.stack([own.row_means(each) for each in (*log_probs, own.log_probs)], dim=1).tolist()
                found |= dict(zip(places, means, strict=True))
        found = adapter.ranks.gather(found)
        return {rows[place].index: found[place] for place in sorted(found) if all(map(math.isfinite, found[place]))}

    def _log_probs(self, layer: int, states: Tensor, targets: Tensor) -> Tensor:
        said = []
        for part, wanted in zip(states.split(POSITIONS), targets.split(POSITIONS), strict=True):
            moved = part if self._translators is None else self._translators(layer, part)
            said.append(full_precision(self._ending(moved)).log_softmax(dim=-1).gather(1, wanted.unsqueeze(1))[:, 0])
        return torch.cat(said)
