"""Small tokenizers that put a space before every text, each in its own way, and one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

LETTERS = "QuestionAnswerxy:\n."
SPECIALS = ("<unk>", "<s>", "</s>")
WORD_STARTS = tuple("▁" + letter for letter in "QAxy▁")
PREFIXING = ("prepend", "always", "first", "bytes", "python")
EVERY = (*PREFIXING, "never")


def prefixing_tokenizer(kind: str, pieces: Sequence[str] = WORD_STARTS, letters: str = LETTERS) -> Any:
    """One token a letter, and `pieces` of two letters; `<s>` before every text.

    `prepend` is Llama-2's normalizer; `always`, `first` and `never` are schemes of Metaspace; `bytes` is GPT-2's
    splitting with a space put first; `python` has no backend.
    """
    if kind == "python":
        return PythonTokenizer(pieces)
    space = "Ġ" if kind == "bytes" else "▁"
    known = [*dict.fromkeys(letters), "▁"]
    if kind == "bytes":
        known = pre_tokenizers.ByteLevel.alphabet()
        pieces = [piece.replace("▁", space) for piece in pieces]
    vocabulary = {piece: number for number, piece in enumerate([*SPECIALS, *sorted(known), *pieces])}
    merges = [(piece[0], piece[1:]) for piece in pieces]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    if kind == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "bytes":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=True)])
        backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    if kind == "never":
        backend.decoder = decoders.Metaspace(prepend_scheme=kind)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return fast(backend)


def fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


class PythonTokenizer(PreTrainedTokenizer):
    """Like `prepend`, written in Python: its settings cannot be read."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = [*SPECIALS, *dict.fromkeys(LETTERS), "▁", *pieces]
        PreTrainedTokenizer.__init__(self, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

    @property
    def vocab_size(self) -> int:
        return len(self._pieces)

    def get_vocab(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self._pieces)}

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return [1, *token_ids_0]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("▁", " ").removeprefix(" ")

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        rest, tokens = "▁" + text.replace(" ", "▁"), []
        while rest:
            size = 2 if rest[:2] in self._pieces else 1
            tokens.append(rest[:size])
            rest = rest[size:]
        return tokens

    def _convert_token_to_id(self, token: str) -> int:
        return self._pieces.index(token) if token in self._pieces else 0

    def _convert_id_to_token(self, index: int) -> str:
        return self._pieces[index]
