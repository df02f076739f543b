"""Whether a name can be looked up on the hub at all."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from soul_lightning.exceptions import MisconfigurationError

TELLING = ("config.json", "tokenizer_config.json", "adapter_config.json")
"""A repository has at least one of these."""


def refuse_unreachable(source: str) -> None:
    """Say at once what transformers says after a minute of further tries: without a network nothing is fetched.

    Args:
        source: A folder or a hub name.

    Raises:
        MisconfigurationError: It is no folder, nothing of it was fetched before, and the hub's host has no address.
    """
    if Path(source).is_dir() or constants.HF_HUB_OFFLINE or getproxies():  # a proxy looks addresses up by itself
        return
    try:
        if any(isinstance(try_to_load_from_cache(source, name), str) for name in TELLING):
            return
    except HFValidationError:  # no name that a hub could have; who loads it says so
        return
    host = urlsplit(constants.ENDPOINT).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise MisconfigurationError(
            f"there is no folder {source!r}, and no network to look on the hub for the name; check the path, or give a "
            f"folder"
        ) from error
