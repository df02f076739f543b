"""The cache of what was encoded: one file a set of rows, named by the content of all that matters."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from soul_lightning.files import replaced_when_written

logger = logging.getLogger(__name__)

CACHE_VERSION = 4

_vocabularies: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, bytes]] = WeakKeyDictionary()


def cache_folder() -> Path:
    """Where encoded rows are kept: `$SOUL_CACHE`, or soul_lightning's folder in the user's cache folder."""
    base = os.environ.get("SOUL_CACHE")
    return Path(base) if base else Path.home() / ".cache" / "soul_lightning" / "encoded"


def content_hash(
    texts: Sequence[str], flags: Sequence[bool], tokenizer: PreTrainedTokenizerBase, settings: Sequence[object]
) -> str:
    """A hash of all that decides how rows are encoded: 32 hexadecimal digits.

    Args:
        texts: Every text, order included.
        flags: What else is said of each row.
        tokenizer: The tokenizer, hashed by what it does and not by its name.
        settings: Whatever else decides, as plain values.
    """
    splits = getattr(tokenizer, "split_special_tokens", False)
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, *settings, type(tokenizer).__name__, splits]).encode())
    digest.update(_identity(tokenizer))
    # Where one text ends and the next begins must count, and joining is much faster than quoting.
    digest.update(np.fromiter(map(len, texts), dtype=np.int64).tobytes() + bytes(flags))
    digest.update("".join(texts).encode(errors="surrogatepass"))
    return digest.hexdigest()[:32]


def _identity(tokenizer: PreTrainedTokenizerBase) -> bytes:
    """What makes a tokenizer encode as it does; of its vocabulary, which is large, a hash that is taken once."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return repr([tokenizer, sorted(tokenizer.get_vocab().items())]).encode(errors="surrogatepass")
    size = backend.get_vocab_size(with_added_tokens=False)
    known_size, vocabulary = _vocabularies.get(tokenizer, (-1, b""))
    if known_size != size:
        vocabulary = hashlib.sha256(pickle.dumps(backend.model)).digest()
        _vocabularies[tokenizer] = size, vocabulary
    around = pickle.dumps([backend.normalizer, backend.pre_tokenizer, backend.post_processor])
    return vocabulary + around + repr(sorted(backend.get_added_tokens_decoder().items())).encode()


def load_kept(path: Path, rows: int, names: Sequence[str]) -> dict[str, Tensor] | None:
    """What was kept, or nothing where it is missing or damaged: then the rows are encoded anew.

    Args:
        path: The file.
        rows: How many rows it must hold.
        names: The tensors that it must hold; all but the first have a value for each row.
    """
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        logger.warning("the encoded rows in %s cannot be read (%s); encoding again", path, error)
        return None
    if set(tensors) != set(names) or any(len(tensors[name]) != rows for name in names[1:]):
        logger.warning("the encoded rows in %s are not those asked for; encoding again", path)
        return None
    return tensors


def keep(tensors: dict[str, Tensor], path: Path) -> None:
    """Keep `tensors`; a folder that cannot be written costs time at the next start and nothing else."""
    try:
        with replaced_when_written(path) as temporary:
            save_file(tensors, temporary)
    except (OSError, SafetensorError) as error:
        logger.warning("encoded rows are not kept: %s cannot be written (%s)", path, error)
