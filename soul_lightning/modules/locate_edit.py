"""Locate, then edit: the layer that carries the answers is rewritten in closed form, in place of training."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.modules.one_shot import OneShotModule
from soul_lightning.modules.terms import Term
from soul_lightning.networks.linear_layers import Linear
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.mlp import as_matrix, covariance, down_projections, inputs_of, output_changed
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions, predicting_positions
from soul_lightning.objectives.base import Objective
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.npo import NPO
from soul_lightning.protocols import Batch
from soul_lightning.schedules import as_schedule


class LocateAndEditModule(OneShotModule):
    """Rewrites the memory of the forget rows in one layer's MLP (after ROME and MEMIT, Meng et al. 2022 and 2023).

    The last linear layer W of an MLP is read as a memory: its input at the last token of a prompt is a key k, its
    output there a value. *Locate*: the layer whose values cost the forget rows' answers most log-probability once
    their mean stands at every key. *Edit*: for every key a change r of the value is sought that lowers the forget
    objective, by gradient descent on it; then W moves by the least-squares solution ΔW = R Kᵀ (λ C + K Kᵀ)⁻¹, the
    columns of K and R being keys and changes, and C the mean of k kᵀ over all tokens of the retain rows, which
    therefore see little of it. A row without a prompt has a key at every token that predicts.

    Under `fit` the whole update is one optimizer step, see `OneShotModule`.

    Args:
        network: Where the model comes from, or the model itself; its own weights must train.
        forget: What the changed values are to lower: `NPO` (the default) or another loss of the answers, or the loss
            of a refusal (`PreferenceOptimization`). It reads one text of a row.
        layers: Blocks to edit, from 0, in turn, each against what is left; the located one if none is given.
        preservation: λ: how many keys the average retain token counts as.
        value_steps: Steps of the descent (Adam).
        value_lr: Its rate, in units of the root mean square of the layer's outputs at the keys.
        value_decay: Price of a key's change: times ‖r‖² over the mean of ‖value‖², added to the objective's sum.
        retain_batches: Read so many of the retain stream's batches, evenly spaced; all if none is given.
        micro_batches: Passes that each batch is cut into: less memory.
        tokenizer: The tokenizer of a `network` given as a model.

    Raises:
        MisconfigurationError: A setting is out of range, or the objective reads more than one text of a row.
    """

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        forget: Objective | None = None,
        layers: list[int] | None = None,
        preservation: float = 1000.0,
        value_steps: int = 25,
        value_lr: float = 0.1,
        value_decay: float = 0.01,
        retain_batches: int | None = None,
        micro_batches: int = 1,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        if preservation < 0 or value_steps < 1 or value_lr <= 0 or value_decay < 0 or layers == []:
            raise MisconfigurationError(
                f"LocateAndEditModule: preservation and value_decay must be >= 0, value_steps >= 1, value_lr above 0 "
                f"and layers name one or be none, got {preservation}, {value_decay}, {value_steps}, {value_lr} and "
                f"{layers}"
            )
        objective = forget or NPO(0.5)
        if len(objective.views) != 1 or objective.views == ("every_position",) or objective.hidden_layer is not None:
            raise MisconfigurationError(
                f"LocateAndEditModule edits at the prompt of one text a row, by what is said there, and "
                f"{type(objective).__name__} reads {' and '.join(objective.views)} or hidden states; choose NPO or "
                f"PreferenceOptimization"
            )
        super().__init__(
            network,
            [Term("forget", objective, as_schedule(1.0)), Term("retain", CrossEntropy(), as_schedule(1.0))],
            micro_batches,
            tokenizer=tokenizer,
        )
        self.objective = objective
        self.layers = layers
        self.preservation = preservation
        self.value_steps = value_steps
        self.value_lr = value_lr
        self.value_decay = value_decay
        self.retain_batches = retain_batches

    def leave_update(self) -> tuple[str, dict[str, float]]:
        """Locate, edit layer by layer, and leave the whole of it in `.grad`."""
        forget = [batch.to(self.device) for batch in self.read("forget")[0]]
        retain = [batch.to(self.device) for batch in self.read("retain", self.retain_batches)[0]]
        metrics: dict[str, float] = {}
        with evaluation_mode(self.network), torch.autocast(self.device.type, enabled=False):
            linears = down_projections(self.network)
            layers = self._layers(linears, forget)
            before = {layer: linears[layer].weight.detach().clone() for layer in layers}
            for layer in layers:
                metrics |= self._edit(linears[layer], forget, retain)
        squares = 0.0
        for layer, weight in before.items():
            change = weight - linears[layer].weight.detach()
            linears[layer].weight.grad = change
            linears[layer].weight.data.copy_(weight)  # the optimizer's step makes the change again
            squares += float(change.double().square().sum())
        named = ", ".join(map(str, layers))
        metrics |= {"train/update_norm": squares**0.5, "train/layer": float(layers[0])}
        return f"edited layer {named}: norm {squares**0.5:.3g}, residual {metrics['train/residual']:.2g}", metrics

    def _layers(self, linears: list[Linear], forget: list[Batch]) -> list[int]:
        if self.layers is None:
            falls = self._falls(linears, forget)
            return [max(range(len(linears)), key=falls.__getitem__)]
        wrong = [layer for layer in self.layers if not 0 <= layer < len(linears)]
        if wrong or len(set(self.layers)) < len(self.layers):
            raise MisconfigurationError(
                f"LocateAndEditModule: layers={self.layers} must name different blocks from 0 to {len(linears) - 1}"
            )
        return self.layers

    @torch.no_grad()
    def _falls(self, linears: list[Linear], forget: list[Batch]) -> list[float]:
        """By how much the answers' log-probability falls, all rows together, once a layer says the same at every key.

        That is the mean of what it says: without any output the first layer would look like the one that knows.
        """

        def likelihood(batch: Batch) -> float:
            predictions: Predictions = self(batch)
            return float(predictions.log_probs.double().sum())

        texts = [batch.seen_as(("answer",)) for batch in forget]
        whole = 0.0
        sums: list[Tensor | float] = [0.0] * len(linears)
        keys = 0
        for text in texts:
            keep = key_positions(text)
            with ExitStack() as stack:
                seen = [stack.enter_context(inputs_of(linear)) for linear in linears]
                whole += likelihood(text)
            sums = [total + inputs[0][keep].sum(dim=0) for total, inputs in zip(sums, seen, strict=True)]
            keys += int(keep.sum())
        falls = []
        for linear, total in zip(linears, sums, strict=True):
            mean = linear(torch.as_tensor(total) / max(1, keys))  # the mean of the outputs, for the layer is linear
            without = 0.0
            for text in texts:
                with output_changed(linear, key_positions(text), mean.expand_as):
                    without += likelihood(text)
            falls.append(whole - without)
        return falls

    def _edit(self, linear: Linear, forget: list[Batch], retain: list[Batch]) -> dict[str, float]:
        """Move the weight of one layer, in place."""
        found = [self._value_changes(linear, batch) for batch in forget]
        keys, changes = (torch.cat(parts).double() for parts in zip(*(each[:2] for each in found), strict=True))
        if not torch.isfinite(changes).all():
            raise TrainingDivergedError(
                "the changes of values are not finite; lower value_lr, or take a bounded forget"
            )
        update = least_squares_edit(keys, changes, self._retain_covariance(linear, retain), self.preservation)
        as_matrix(linear).add_(update.to(linear.weight.dtype))
        residual = (keys @ update.T - changes).norm() / changes.norm().clamp(min=1e-30)
        units = max(1, sum(self.objective.count(batch.seen_as(self.objective.views)) for batch in forget))
        start, end = (sum(losses) / units for losses in zip(*(each[2] for each in found), strict=True))
        return {"train/forget_loss": start, "train/value_loss": end, "train/residual": float(residual)}

    def _value_changes(self, linear: Linear, batch: Batch) -> tuple[Tensor, Tensor, tuple[float, float]]:
        """Keys [keys, inputs], changes [keys, outputs], and the objective's sum before and after.

        Rows do not see one another: the sum's gradient in one key's change, which Adam scales coordinate by
        coordinate, depends on its own row alone, so that micro-batches change nothing.
        """
        text = batch.seen_as(self.objective.views)
        keep = key_positions(text)
        with torch.no_grad(), inputs_of(linear) as seen:
            self(text)
            keys = seen[0][keep]
            values = linear(keys)
        reference = self.references(self, "forget", self.objective, text)
        scale = values.square().mean(dim=1, keepdim=True).sqrt()
        change = torch.zeros_like(values, requires_grad=True)  # in units of `scale`
        descent = torch.optim.Adam([change], lr=self.value_lr)
        losses: list[float] = []
        for _ in range(self.value_steps + 1):
            with output_changed(linear, keep, lambda output: output + scale * change):
                predictions: Predictions = self(text)
            loss = self.objective.summed(predictions, reference)
            losses.append(float(loss.detach()))
            if len(losses) <= self.value_steps:
                price = self.value_decay * change.square().mean(dim=1).sum()
                (change.grad,) = torch.autograd.grad(loss + price, [change])
                descent.step()
        return keys, (scale * change).detach(), (losses[0], losses[-1])

    @torch.no_grad()
    def _retain_covariance(self, linear: Linear, retain: list[Batch]) -> Tensor:
        """The mean of k kᵀ over all tokens of the retain rows: [inputs, inputs], float64."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        tokens = 0
        for batch in retain:
            with inputs_of(linear) as seen:
                self(batch.seen_as(("answer",)))
            keys = seen[0][batch.attention_mask.bool()]
            total = total + covariance(keys)
            tokens += len(keys)
        return total / max(1, tokens)


def key_positions(batch: Batch) -> Tensor:
    """[batch, tokens] true at the last token of each row's prompt; without one, at every token that predicts.

    Args:
        batch: Rows, padded on either side; one without a label has no key. The token that begins a text is no prompt.
    """
    predicts = predicting_positions(batch.labels)
    is_first = predicts & (predicts.cumsum(dim=1) == 1)
    before = (batch.attention_mask.cumsum(dim=1) - batch.attention_mask)[is_first]  # tokens before the first key
    has_prompt = torch.zeros(len(batch), dtype=torch.bool, device=predicts.device)
    has_prompt[predicts.any(dim=1)] = before > 0
    return torch.where(has_prompt[:, None], is_first, predicts)


def least_squares_edit(keys: Tensor, changes: Tensor, retained: Tensor, preservation: float) -> Tensor:
    """ΔW that minimises Σ ‖ΔW k − r‖² + λ tr(ΔW C ΔWᵀ): R Kᵀ (λ C + K Kᵀ)⁻¹, the smallest where there are many.

    Args:
        keys: [keys, inputs], the columns of K.
        changes: [keys, outputs], the columns of R.
        retained: C, [inputs, inputs].
        preservation: λ.

    Returns:
        [outputs, inputs] in float64.
    """
    system = preservation * retained.double() + covariance(keys)
    right = torch.mm(changes.double().T, keys.double())
    return torch.mm(right, torch.linalg.pinv(system, hermitian=True))
