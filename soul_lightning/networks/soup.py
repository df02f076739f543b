"""Weight soups: one model whose weights are the average of several models'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError

_NOT_OF_THE_FUNCTION = ("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
"""Entries of a configuration that two models with the same meaning of their weights may differ in."""


@torch.no_grad()
def average(network: PreTrainedModel, sources: Sequence[str], read: Callable[[str], PreTrainedModel]) -> None:
    """Make a network the average of several (Wortsman et al. 2022, "Model soups": the uniform soup).

    Every further model weighs in by 1 / (how many there are so far), so that besides the network one other is held,
    and the average of equal weights is these weights to the bit. Tied weights count once.

    Args:
        network: The first of them, in float32; changed in place.
        sources: Names of all, the first one's too.
        read: Loads a model like `network`.

    Raises:
        MisconfigurationError: A model is of another architecture.
    """
    first, *others = sources
    for number, source in enumerate(others, start=2):
        other = read(source)
        _refuse_other_architecture(first, network, source, other)
        theirs = _values(other)
        for name, own in _values(network).items():
            if own.is_floating_point():
                own.add_((theirs[name] - own) / number)
            elif not torch.equal(own, theirs[name]):
                raise MisconfigurationError(
                    f"network.soup: {name} is made of whole numbers, which have no average, and those of {source!r} "
                    f"are not those of {first!r}; leave one of the two out"
                )


def refuse_other_tokenizer(
    first: str, tokenizer: PreTrainedTokenizerBase, source: str, other: PreTrainedTokenizerBase
) -> None:
    """Check that two models of a soup number the same tokens alike.

    Raises:
        MisconfigurationError: They do not.
    """
    if tokenizer.get_vocab() != other.get_vocab():
        raise MisconfigurationError(
            f"network.soup: the tokenizer of {source!r} has other tokens than that of {first!r}, so that an average of "
            f"their weights means nothing; leave one of the two out"
        )


def _values(network: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters, each once whatever its names, and the buffers that are saved with them."""
    saved = network.state_dict()
    buffers = {name: buffer for name, buffer in network.named_buffers() if name in saved}
    return {**dict(network.named_parameters()), **buffers}


def _refuse_other_architecture(first: str, network: PreTrainedModel, source: str, other: PreTrainedModel) -> None:
    own, theirs = _meaning(network), _meaning(other)
    differing = [key for key in {**own, **theirs} if own.get(key) != theirs.get(key)]  # the class first
    shapes, their_shapes = ({name: value.shape for name, value in _values(each).items()} for each in (network, other))
    if differing:
        key = differing[0]
        what = f"{key} is {theirs.get(key)!r:.60} in {source!r} and {own.get(key)!r:.60} in {first!r}"
    elif shapes != their_shapes:
        name = sorted(set(shapes.items()) ^ set(their_shapes.items()))[0][0]
        what = f"{name} of {source!r} has not the shape that it has in {first!r}"
    else:
        return
    raise MisconfigurationError(f"network.soup averages models of one architecture, and {what}; leave one of them out")


def _meaning(network: PreTrainedModel) -> Mapping[str, Any]:
    """The class, and what of the configuration says how the weights are used."""
    config = {
        key: value
        for key, value in network.config.to_dict().items()
        if key not in _NOT_OF_THE_FUNCTION and not key.startswith("_") and not key.endswith("_token_id")
    }
    return {"architecture": type(network).__name__, **config}
