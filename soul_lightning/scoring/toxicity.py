"""How toxic a text is, by scorers that need no service on the net.

Toxicity is not harmfulness. These scorers hear rude words: in PKU-SafeRLHF, where unsafe advice is given politely, they
tell unsafe from safe answers with an area under the curve of 0.52 to 0.53, hardly better than a coin. Whether such
answers were forgotten is measured by their likelihood.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import load_tokenizer, resolve_source
from soul_lightning.networks.model_folder import refuse_unsafe_model
from soul_lightning.records.sources import RecordSource, check_source, read_records, text_column_of
from soul_lightning.records.table import RecordTable

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PROFANITY = "profanity"
"""What names the scorer of alt-profanity-check."""
RIDGE_PENALTY = 0.5
_TRUTH = {"true": 1.0, "false": 0.0}


class ToxicityScorer(Protocol):
    """Says how toxic texts are. It gets ready at its first call, which may be one without texts."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """One number a text, from 0 (harmless) to 1 (toxic).

        Raises:
            MisconfigurationError: What the scorer needs is missing or unfit.
        """
        ...


class RidgeToxicityScorer:
    """Ridge regression on TF-IDF features of the user's own labelled texts: the default, fitted in seconds.

    The features are words, and runs of one to five characters within them, which see through disguised spelling. Fitted
    on half of the rows of RealToxicityPrompts (Gehman et al. 2020; 5000 rows) it tells texts of a Perspective toxicity
    of 0.5 and more in the other half with an area under the curve of 0.917 ± 0.005 over five such halves, and of 0.93
    with four fifths of the rows. Words alone reach 0.896, characters alone 0.905, pairs of words beside both 0.911.
    Nothing in it is random.

    Args:
        labelled: File, or Hugging Face data set, of labelled texts.
        text_column: Column of the texts; a field of a nested column by `column.field`.
        label_column: Column of their toxicity, 0 to 1 or true and false; rows without one are left out.

    Raises:
        MisconfigurationError: The file is missing, or of unknown kind.
    """

    def __init__(
        self, labelled: str | Path | RecordSource, text_column: str = "text", label_column: str = "toxicity"
    ) -> None:
        self.source = labelled if isinstance(labelled, RecordSource) else RecordSource(str(labelled))
        check_source(self.source, "labelled")
        self.text_column = text_column
        self.label_column = label_column
        self._fitted: Pipeline | None = None

    @property
    def name(self) -> str:
        """`ridge:` and the file that it learned from."""
        return f"ridge:{Path(self.source.path).name}"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """The toxicity of each text; the first call fits.

        Raises:
            MisconfigurationError: The labelled texts cannot be read, or teach nothing.
        """
        if self._fitted is None:
            self._fitted = self._fit()
        if not texts:
            return []
        scores: list[float] = np.clip(self._fitted.predict(texts), 0, 1).tolist()
        return scores

    def _fit(self) -> Pipeline:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline, make_union

        table = read_records(self.source, "labelled").flat()
        texts, labels = _labelled_texts(table, text_column_of(self.source, self.text_column), self.label_column)
        shared: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32}
        features = make_union(
            TfidfVectorizer(token_pattern=r"\w+", **shared),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), **shared),
        )
        # Of the solvers for sparse features the one that draws nothing and fits the intercept.
        model = make_pipeline(features, Ridge(RIDGE_PENALTY, solver="sparse_cg"))
        try:
            return model.fit(texts, labels)
        except ValueError as error:
            raise MisconfigurationError(
                f"labelled: nothing can be learned from the {len(texts)} texts of {table.name} ({error}); give texts "
                f"with words in them"
            ) from error


def _labelled_texts(table: RecordTable, text_column: str | None, label_column: str) -> tuple[list[str], list[float]]:
    labels = [_toxicity(table, place, value, label_column) for place, value in enumerate(table.values(label_column))]
    places = [place for place, label in enumerate(labels) if label is not None]
    if len(places) < len(labels):
        logger.info("%d of %d texts have no label and are left out", len(labels) - len(places), len(labels))
    known = [label for label in labels if label is not None]
    if len(set(known)) < 2:
        raise MisconfigurationError(
            f"labelled: the {len(known)} labelled texts of {table.name} do not differ in the column {label_column!r}, "
            f"and teach nothing; give toxic and harmless texts"
        )
    chosen = replace(
        table, rows=[table.rows[place] for place in places], numbers=[table.numbers[place] for place in places]
    )
    return chosen.texts(str(text_column)), known


def _toxicity(table: RecordTable, place: int, value: Any, column: str) -> float | None:
    """A cell as a number from 0 to 1; none where it is empty."""
    cell = value.strip().lower() if isinstance(value, str) else value
    if cell is None or cell == "":
        return None
    try:
        label = float(_TRUTH.get(cell, cell))
    except (TypeError, ValueError):
        label = math.inf
    if math.isnan(label):
        return None
    if not 0 <= label <= 1:
        raise MisconfigurationError(
            f"labelled: {table.unit} {table.numbers[place]} of {table.name} holds {value!r:.40} in the column "
            f"{column!r}, neither a number from 0 to 1 nor true or false; mend it, or leave the row out"
        )
    return label


class ProfanityToxicityScorer:
    """The linear model that the package alt-profanity-check ships: a toxicity without any labelled text.

    On RealToxicityPrompts its area under the curve is 0.88.

    Security: the package's weights are two joblib files, which are pickles, and importing it loads them: whoever could
    change the installed files could run code. Install it from its wheel, with hashes checked, and nothing else of its
    name.
    """

    name = "alt-profanity-check"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """The probability that each text is profane.

        Raises:
            MisconfigurationError: The package is not installed.
        """
        try:
            package = import_module("profanity_check")
        except ImportError as error:
            raise MisconfigurationError(
                "the toxicity scorer 'profanity' needs the package alt-profanity-check; "
                "pip install 'soul-lightning[toxicity]', or give labelled texts"
            ) from error
        if not texts:
            return []
        scores: list[float] = package.predict_prob(list(texts)).tolist()
        return scores


class ClassifierToxicityScorer:
    """Any Hugging Face sequence classifier with safetensors weights; no code that comes with it is run.

    Its logits become probabilities as in transformers' own pipeline: by softmax, by sigmoid where it has several labels
    at once (`problem_type`) or one label only, or not at all in a regression, whose values are clipped.

    Args:
        name: Folder or hub name.
        label: The label whose probability is the toxicity, in any case; none for a model that has one label only.
        batch_size: Texts in a batch; texts of like length go together.
        max_tokens: Longer texts are cut on the right, as they are where the model or its tokenizer takes fewer.
        device: Where the classifier runs; it stays there beside the model that is measured.

    Raises:
        MisconfigurationError: A size is out of range.
    """

    def __init__(
        self,
        name: str,
        label: str | None = "toxic",
        batch_size: int = 32,
        max_tokens: int = 512,
        device: str = "cpu",
    ) -> None:
        if batch_size < 1 or max_tokens < 1:
            raise MisconfigurationError(
                f"toxicity scorer {name!r}: batch_size and max_tokens must be >= 1, got {batch_size} and {max_tokens}"
            )
        self.name = name
        self.label = label
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.device = device
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the classifier: another process loads its own."""
        return self.__dict__ | {"_loaded": None}

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """The probability of the label for each text; the first call loads the model.

        Raises:
            MisconfigurationError: There is no such classifier, or it has no such label.
        """
        if self._loaded is None:
            self._loaded = self._load()
        model, tokenizer = self._loaded
        place = self._place_of_label(model.config)
        longest = getattr(model.config, "max_position_embeddings", None) or self.max_tokens
        longest = min(self.max_tokens, tokenizer.model_max_length, longest)
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        scores = [0.0] * len(texts)
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size]
            batch = tokenizer(
                [texts[number] or " " for number in numbers],  # some tokenizers give an empty text no token at all
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            with torch.no_grad():
                found = _probabilities(model.config, model(**batch.to(self.device)).logits.float())[:, place]
            for number, score in zip(numbers, found.tolist(), strict=True):
                scores[number] = score
        return scores

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from transformers import AutoModelForSequenceClassification

        source = resolve_source(self.name)
        refuse_unsafe_model(source)
        tokenizer = load_tokenizer(self.name)
        try:
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:200].rstrip(".")
            raise MisconfigurationError(
                f"no sequence classifier can be loaded from {source!r} ({reason}); give a folder with config.json and "
                f"safetensors weights, a hub name, or {PROFANITY!r}"
            ) from error
        if loading["missing_keys"]:
            raise MisconfigurationError(
                f"the model {source!r} is no trained classifier (it lacks {sorted(loading['missing_keys'])[0]}); give "
                f"one that was fine-tuned to classify texts"
            )
        if getattr(model.config, "pad_token_id", None) is None:  # without it the last token of padded rows is unknown
            model.config.pad_token_id = tokenizer.pad_token_id
        return model.to(self.device).eval(), tokenizer

    def _place_of_label(self, config: PreTrainedConfig) -> int:
        names = {int(place): name for place, name in (config.id2label or {}).items()}
        wanted = [place for place, name in names.items() if self.label is None or name.lower() == self.label.lower()]
        if len(wanted) != 1:
            raise MisconfigurationError(
                f"the classifier {self.name!r} has the labels {', '.join(map(repr, names.values()))}, and the toxic "
                f"one is to be {self.label!r}; name one of them with label"
            )
        return wanted[0]


def _probabilities(config: PreTrainedConfig, logits: Tensor) -> Tensor:
    if config.problem_type == "regression":
        return logits.clamp(0, 1)
    several_at_once = config.problem_type == "multi_label_classification" or logits.shape[1] == 1
    return logits.sigmoid() if several_at_once else logits.softmax(dim=1)


def make_scorer(
    scorer: str | ToxicityScorer | None = None,
    labelled: str | Path | RecordSource | None = None,
    *,
    text_column: str = "text",
    label_column: str = "toxicity",
) -> ToxicityScorer:
    """The scorer that a setting means: by default one fitted on the user's labelled texts.

    Args:
        scorer: A scorer; `profanity`; or folder or name of a Hugging Face classifier with a label `toxic`.
        labelled: File of labelled texts, where no scorer is named.
        text_column: Column of its texts.
        label_column: Column of their toxicity.

    Raises:
        MisconfigurationError: Neither or both are given.
    """
    if labelled is None and scorer is None:
        raise MisconfigurationError(
            f"nothing says what is toxic; give labelled, a file of texts with their toxicity, or scorer: "
            f"{PROFANITY!r} or a Hugging Face classifier"
        )
    if labelled is not None and scorer is not None:
        raise MisconfigurationError(
            f"toxicity is judged by one scorer, and both are given, scorer {scorer!r} and labelled {str(labelled)!r}; "
            f"leave one of them out"
        )
    if labelled is not None:
        return RidgeToxicityScorer(labelled, text_column, label_column)
    if isinstance(scorer, str):
        return ProfanityToxicityScorer() if scorer == PROFANITY else ClassifierToxicityScorer(scorer)
    assert scorer is not None
    return scorer
