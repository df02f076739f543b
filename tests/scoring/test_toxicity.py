"""Scorers of toxicity: what they learn, what they refuse, and what they cannot hear."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource
from soul_lightning.scoring.toxicity import (
    ClassifierToxicityScorer,
    ProfanityToxicityScorer,
    RidgeToxicityScorer,
    make_scorer,
)
from tests.conftest import WORDS, real_data

NICE = ["a lovely day in paris", "she plays the harp", "what a kind baker", "the judge lives in oslo"]
NASTY = ["you stupid fool", "shut up idiot", "what a stupid idiot", "that damn fool again"]


def write_labelled(path: Path, labels: Mapping[str, Any] | None = None) -> Path:
    rows = labels if labels is not None else dict.fromkeys(NICE, 0.1) | dict.fromkeys(NASTY, 0.9)
    path.write_text("\n".join(json.dumps({"text": text, "toxicity": label}) for text, label in rows.items()))
    return path


def test_fields_of_nested_columns_are_columns(fitted: RidgeToxicityScorer, tmp_path: Path) -> None:
    rows = [(text, 0.1) for text in NICE] + [(text, 0.9) for text in NASTY]
    lines = [json.dumps({"continuation": {"text": text, "toxicity": label}}) for text, label in rows]
    (tmp_path / "nested.jsonl").write_text("\n".join(lines))
    scorer = RidgeToxicityScorer(tmp_path / "nested.jsonl", "continuation.text", "continuation.toxicity")
    assert scorer([*NICE, *NASTY]) == fitted([*NICE, *NASTY])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> RidgeToxicityScorer:
    return RidgeToxicityScorer(write_labelled(tmp_path_factory.mktemp("ridge") / "texts.jsonl"))


def test_ridge_learns_what_the_labels_say(fitted: RidgeToxicityScorer) -> None:
    nice, nasty, disguised = fitted(["a kind lovely harp", "stupid damn idiot", "you stuuupid f00l"])
    assert nice < 0.4 < 0.6 < nasty
    assert nice < disguised
    assert fitted([]) == []
    assert fitted.name == "ridge:texts.jsonl"


def test_ridge_fits_once_and_the_same_each_time(tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "texts.jsonl")
    one, other = RidgeToxicityScorer(path), RidgeToxicityScorer(RecordSource(str(path)))
    scores = one(NICE + NASTY)
    assert scores == other(NICE + NASTY)
    path.unlink()
    assert one(NICE + NASTY) == scores
    assert pickle.loads(pickle.dumps(one))(NICE + NASTY) == scores


@given(st.lists(st.text(), max_size=4))
def test_any_text_has_a_score(fitted: RidgeToxicityScorer, texts: list[str]) -> None:
    scores = fitted(texts)
    assert len(scores) == len(texts)
    assert all(0 <= score <= 1 for score in scores)


def test_labels_may_be_booleans_words_and_numbers_in_text(tmp_path: Path) -> None:
    booleans = write_labelled(tmp_path / "a.jsonl", dict.fromkeys(NICE, False) | dict.fromkeys(NASTY, True))
    words = tmp_path / "b.csv"
    labels = ["false", "0", "0.0", "False", "true", "1", "1.0", "TRUE"]
    cells = (f"{text},{label}" for text, label in zip(NICE + NASTY, labels, strict=True))
    words.write_text("\n".join(["said,rude", *cells]))
    from_words = RidgeToxicityScorer(words, "said", "rude")
    assert from_words(NASTY) == RidgeToxicityScorer(booleans)(NASTY)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels: dict[str, Any] = dict.fromkeys(NICE, 0.1) | dict.fromkeys(NASTY, 0.9)
    partly = write_labelled(tmp_path / "a.jsonl", labels | {"": None, "paris": None, "oslo": float("nan")})
    whole = write_labelled(tmp_path / "b.jsonl", labels)
    with caplog.at_level(logging.INFO):
        assert RidgeToxicityScorer(partly)(NASTY) == RidgeToxicityScorer(whole)(NASTY)
    assert "3 of 11 texts have no label" in caplog.text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": 0, "b": 1.5}, r"line 2 of .*texts\.jsonl holds 1\.5 in the column 'toxicity', neither a number from"),
        ({"a": 0, "b": "very"}, r"line 2 .* holds 'very'"),
        ({"a": 0, "b": [1]}, r"line 2 .* holds \[1\]"),
        ({"a": 0, "b": -0.1}, r"line 2 .* holds -0\.1"),
        ({"a": 0, " ": 1}, r"no text in the column 'text', first line 2"),
        ({"a": 0.2, "b": 0.2}, r"the 2 labelled texts of .* do not differ in the column 'toxicity'"),
        ({"a": None}, r"the 0 labelled texts"),
        ({"!": 0, "?": 1}, r"nothing can be learned from the 2 texts"),
    ],
)
def test_unfit_labels_are_named(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    scorer = RidgeToxicityScorer(write_labelled(tmp_path / "texts.jsonl", labels))
    with pytest.raises(MisconfigurationError, match=message) as caught:
        scorer([])
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"labelled: there is no file .*none\.csv"):
        RidgeToxicityScorer(tmp_path / "none.csv")
    path = write_labelled(tmp_path / "texts.jsonl")
    with pytest.raises(MisconfigurationError, match=r"no column 'toxic' .* did you mean 'toxicity'"):
        RidgeToxicityScorer(path, label_column="toxic")([])
    with pytest.raises(MisconfigurationError, match="no column 'said'"):
        RidgeToxicityScorer(path, "said")([])


def test_profanity_names_its_extra_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(MisconfigurationError, match=r"pip install 'soul-lightning\[toxicity\]'"):
        ProfanityToxicityScorer()(["text"])


def test_profanity_scores_where_it_is_installed() -> None:
    pytest.importorskip("profanity_check", reason="alt-profanity-check (the extra toxicity) is not installed")
    nice, nasty = ProfanityToxicityScorer()(["what a kind baker", "go to hell you fucking idiot"])
    assert 0 <= nice < 0.5 < nasty <= 1
    assert ProfanityToxicityScorer()([]) == []


@pytest.fixture
def classifier(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Writes a tiny random classifier: (labels, problem type) → its folder."""

    def write(labels: list[str], problem: str | None = None) -> str:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = BertForSequenceClassification(_bert(len(tokenizer), labels, problem))
        folder = tmp_path / "classifier"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return write


def _bert(vocabulary: int, labels: list[str], problem: str | None) -> BertConfig:
    settings: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 12, "pad_token_id": 0, "problem_type": problem,
        "id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)},
        "initializer_range": 1.0,  # scores far from one another
    }  # fmt: skip
    return BertConfig(**settings)


TEXTS = ["ada lives in paris .", "who ?", " ".join(WORDS * 3), "oslo and rome", ""]


def expected(folder: str, tokenizer: PreTrainedTokenizerFast, activation: str, place: int) -> list[float]:
    """Each text alone, by hand."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        with torch.no_grad():
            logits = model(**tokenizer(text, truncation=True, max_length=12, return_tensors="pt")).logits[0]
        values = {"softmax": logits.softmax(0), "sigmoid": logits.sigmoid(), "none": logits.clamp(0, 1)}[activation]
        found.append(float(values[place]))
    return found


@pytest.mark.parametrize(
    ("labels", "problem", "label", "activation", "place"),
    [
        (["neutral", "Toxic"], None, "toxic", "softmax", 1),
        (["toxic", "neutral"], "single_label_classification", "TOXIC", "softmax", 0),
        (["insult", "toxic", "threat"], "multi_label_classification", "toxic", "sigmoid", 1),
        (["score"], None, None, "sigmoid", 0),
        (["score"], "regression", None, "none", 0),
    ],
)
def test_a_classifier_gives_the_probability_of_its_label(
    classifier: Any, tokenizer: PreTrainedTokenizerFast, labels: list[str], problem: str | None, label: str | None,
    activation: str, place: int,
) -> None:  # fmt: skip
    folder = classifier(labels, problem)
    scores = ClassifierToxicityScorer(folder, label, batch_size=2)(TEXTS)
    assert scores == pytest.approx(expected(folder, tokenizer, activation, place), abs=1e-5)
    assert len({round(score, 3) for score in scores}) > 1 or activation == "none"


def test_a_classifier_draws_nothing_and_is_pickled_without_its_weights(classifier: Any) -> None:
    scorer = ClassifierToxicityScorer(classifier(["neutral", "toxic"]))
    state = torch.get_rng_state()
    scores = scorer(TEXTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert scorer([]) == []
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)(TEXTS) == scores


@pytest.mark.parametrize("label", ["toxic", None])
def test_a_label_that_is_not_there_names_those_that_are(classifier: Any, label: str | None) -> None:
    scorer = ClassifierToxicityScorer(classifier(["LABEL_0", "LABEL_1"]), label)
    with pytest.raises(MisconfigurationError, match="has the labels 'LABEL_0', 'LABEL_1'"):
        scorer([])


def test_what_is_no_classifier_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, model_folder: Path
) -> None:
    folder = tmp_path / "encoder"
    BertModel(_bert(len(tokenizer), ["neutral", "toxic"], None)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(MisconfigurationError, match=r"no trained classifier \(it lacks classifier"):
        ClassifierToxicityScorer(str(folder))([])
    (folder / "model.safetensors").unlink()
    with pytest.raises(MisconfigurationError, match="no sequence classifier can be loaded"):
        ClassifierToxicityScorer(str(folder))([])
    with pytest.raises(MisconfigurationError, match="does not exist"):
        ClassifierToxicityScorer(str(tmp_path / "none"))([])
    with pytest.raises(MisconfigurationError, match="batch_size and max_tokens must be >= 1, got 0 and 512"):
        ClassifierToxicityScorer("name", batch_size=0)


def test_a_setting_means_a_scorer(tmp_path: Path, fitted: RidgeToxicityScorer) -> None:
    path = write_labelled(tmp_path / "texts.jsonl")
    ridge = make_scorer(labelled=path, text_column="a", label_column="b")
    assert isinstance(ridge, RidgeToxicityScorer)
    assert (ridge.text_column, ridge.label_column) == ("a", "b")
    assert make_scorer(fitted) is fitted
    assert isinstance(make_scorer("profanity"), ProfanityToxicityScorer)
    named = make_scorer("someone/classifier")
    assert isinstance(named, ClassifierToxicityScorer) and named.name == "someone/classifier"
    with pytest.raises(MisconfigurationError, match="nothing says what is toxic"):
        make_scorer()
    with pytest.raises(MisconfigurationError, match=r"scorer 'profanity' and labelled '.*texts\.jsonl'"):
        make_scorer("profanity", path)


@pytest.mark.real
def test_toxicity_is_heard_and_harm_is_not(tmp_path: Path) -> None:
    lines = real_data("real_toxicity_prompts/rtp_val_5000.jsonl").read_text().splitlines()
    halves = [[json.loads(line) for line in lines[start::2]] for start in (0, 1)]
    learned, heard = (
        [text for row in half for text in (row["prompt"], row["continuation"]) if text["toxicity"] is not None]
        for half in halves
    )
    path = tmp_path / "half.jsonl"
    path.write_text("\n".join(map(json.dumps, learned)))
    scorer = RidgeToxicityScorer(path)
    is_toxic = [text["toxicity"] >= 0.5 for text in heard]
    assert roc_auc_score(is_toxic, scorer([text["text"] for text in heard])) > 0.9
    pairs = map(json.loads, real_data("pku_saferlhf/pku_saferlhf_pairs.jsonl").read_text().splitlines())
    answers = [(row[f"response_{n}"], not row[f"is_response_{n}_safe"]) for row in pairs for n in (0, 1)]
    texts, is_unsafe = zip(*answers, strict=True)
    assert 0.4 < roc_auc_score(is_unsafe, scorer(texts)) < 0.65
