"""One forward pass over the labelled rows of several streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from soul_lightning.networks.forward import at_positions, head_sees_only, hidden_states, label_predictions
from soul_lightning.networks.packing import Layout, hidden_size_of, pack, packed_layout
from soul_lightning.networks.predictions import Predictions, predicting_positions
from soul_lightning.protocols import Batch


class Request(NamedTuple):
    """Rows to run through the network.

    Attributes:
        batch: The rows, as an objective sees them; their alternatives run too.
        hidden_layer: Keep the hidden states behind this many blocks.
        reads_padding: Labels stand on padding, which packed rows have not.
    """

    batch: Batch
    hidden_layer: int | None = None
    reads_padding: bool = False


class JointForward:
    """Predictions for several batches out of one pass in which hardly a token is padding.

    Streams differ in length, and so do the rows of one: packed together they leave almost no padding. Each batch's
    predictions are those of a pass of its own, up to rounding. Where a network cannot keep packed rows apart, or where
    padding is read, padded batches run one after the other.
    """

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._asked_of: tuple[nn.Module, ...] = ()

    def __call__(self, network: nn.Module, requests: Sequence[Request]) -> list[Predictions]:
        """Run the rows of all requests.

        Args:
            network: A causal language model.
            requests: What is asked for.

        Returns:
            Predictions of each request, in its own row order.
        """
        if self._asked_of != (network,):
            self._layout, self._asked_of = packed_layout(network), (network,)
        packed = [place for place, request in enumerate(requests) if self._layout and not request.reads_padding]
        said = dict(zip(packed, self._packed(network, [requests[place] for place in packed]), strict=True))
        return [
            said[place] if place in said else label_predictions(network, request.batch, request.hidden_layer)
            for place, request in enumerate(requests)
        ]

    def _packed(self, network: nn.Module, requests: Sequence[Request]) -> list[Predictions]:
        if self._layout is None or not requests:
            return []
        texts = [
            Request(replace(text, alternatives={}), request.hidden_layer)
            for request in requests
            for text in (request.batch, *request.batch.alternatives.values())
        ]
        said = iter(_packed_predictions(network, texts, self._layout))
        return [
            replace(next(said), alternatives={view: next(said) for view in request.batch.alternatives})
            for request in requests
        ]


def _packed_predictions(network: nn.Module, texts: Sequence[Request], layout: Layout) -> list[Predictions]:
    packed = pack([text.batch for text in texts], layout, hidden_size_of(network))
    places = []
    for text, starts in zip(texts, packed.starts, strict=True):
        rows, tokens = predicting_positions(text.batch.labels).nonzero(as_tuple=True)
        places.append(starts[rows] + tokens)
    keep = torch.cat(places)
    settings = {"output_hidden_states": True} if any(text.hidden_layer is not None for text in texts) else {}
    with head_sees_only(network, keep):
        output = network(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False, **settings)
    # The head's hook keeps the order of `keep`: one text's logits stand behind another's, each in its own row order.
    logits = output.logits if output.logits.dim() == 2 else at_positions(output.logits, keep)
    found = []
    for text, kept, own in zip(texts, places, logits.split([len(kept) for kept in places]), strict=True):
        predictions = Predictions.from_logits(own, text.batch.labels)
        if text.hidden_layer is not None:
            states = hidden_states(getattr(output, "hidden_states", None), text.hidden_layer)
            predictions = replace(predictions, hidden=at_positions(states, kept))
        found.append(predictions)
    return found
