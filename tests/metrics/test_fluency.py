"""Degenerate answers: gibberish of every kind is found, and what people write is spared."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.fluency import Fluency, Reason, degeneracy, fluency, is_degenerate
from soul_lightning.scoring.adapter import CausalLMAdapter
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network, real_data

SHORT = """
    Oslo. | 1990 | Müller | 東京 | A | I | 5 | القاهرة | Mississippi | hahaha | C++ | $5.00 | N/A | No. | BMW | NASA
    PhD | www | zzz | Brno | Krk | Pfft | Schwarzschild | Angstschweiß | Szczebrzeszyn | Zbigniew Brzeziński | rhythm
    Knightsbridge | Nietzsche | Ngũgĩ wa Thiong'o | Nguyễn Phú Trọng | Hsiao Yun-Hwa | Kwame Nkrumah | J.R.R. Tolkien
    XXXIV | Xi'an | Qatar | हिन्दी | กรุงเทพมหานคร | 서울 | Москва | תל אביב | Αθήνα | İstanbul | 1,000,000,000,000
    3.14159265358979 | C6H12O6 | E = mc² | ½ | https://example.com/page?id=3&x=qwk | jane.doe@example.com
    +1 (555) 123-4567 | 08/09/1956 | Duran Duran | no no no | iPhone | McDonald's | x^2 + y^2 = z^2
    Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch | strč prst skrz krk
"""
"""Answers of a word or two that one rule or another could stumble over."""

SENTENCES = {
    "Polish": "W Szczebrzeszynie chrząszcz brzmi w trzcinie i z tego słynie, a wół go pyta o brzęczenie.",
    "Finnish": "Helsinki on Suomen pääkaupunki, jossa asuu yli kuusisataatuhatta ihmistä ja moni kirjailija.",
    "Turkish": "Yazar İstanbul'da doğdu ve çocukluğunu Ankara'da geçirdi; romanları birçok dile çevrildi.",
    "Vietnamese": "Tác giả sinh ra tại Hà Nội và viết nhiều tiểu thuyết về cuộc sống của người dân quê hương.",
    "Indonesian": "Penulis lahir di Jakarta dan menulis banyak buku tentang kehidupan masyarakat desa di pulau Jawa.",
    "Arabic": "وُلِدَ المؤلف في القاهرة وكتب روايات كثيرة عن حياة الناس في الريف المصري.",
    "Hindi": "लेखक का जन्म दिल्ली में हुआ और उन्होंने गाँव के जीवन पर कई उपन्यास लिखे।",
    "Japanese": "著者は東京で生まれ、農村の生活について多くの小説を書いた。",
    "a list": "Actor, singer, producer, director, dancer, composer, painter, writer, poet, editor, chef",
    "a refrain": "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, life is but a dream.",
}


def draws(seed: int, times: int, make: Callable[[random.Random], str]) -> list[str]:
    """`times` texts of a kind."""
    generator = random.Random(seed)
    return [make(generator) for _ in range(times)]


def characters(alphabet: str, shortest: int, longest: int) -> Callable[[random.Random], str]:
    """Draws a run of characters."""
    return lambda draw: "".join(draw.choice(alphabet) for _ in range(draw.randint(shortest, longest)))


def strings_of(word: Callable[[random.Random], str], fewest: int, most: int) -> Callable[[random.Random], str]:
    """Draws a text of drawn words."""
    return lambda draw: " ".join(word(draw) for _ in range(draw.randint(fewest, most)))


def keyboard(draw: random.Random) -> str:
    """Keys of one row."""
    return characters(draw.choice(["qwertyuiop", "asdfghjkl;", "zxcvbnm,./"]), 5, 14)(draw)


GIBBERISH: dict[str, tuple[float, Callable[[random.Random], str]]] = {
    "one sign": (1.0, lambda draw: draw.choice("{}()[]<>!?.,#*_-=~|") * draw.randint(1, 60)),
    "signs": (1.0, characters(string.punctuation + " ", 1, 60)),
    "one letter": (1.0, lambda draw: draw.choice(string.ascii_letters) * draw.randint(5, 60)),
    "letters": (0.95, strings_of(characters(string.ascii_lowercase, 3, 10), 4, 25)),
    "characters": (0.95, characters(string.ascii_letters + string.digits + string.punctuation, 20, 100)),
    "a keyboard's rows": (0.85, strings_of(keyboard, 2, 12)),
    "a keyboard's middle row": (0.85, strings_of(characters("asdfghjkl;", 5, 14), 2, 12)),
}
"""Kinds of gibberish, with the share of 300 that must be found."""


@pytest.mark.parametrize("answer", [answer.strip() for answer in re.split(r"[|\n]", SHORT) if answer.strip()])
def test_short_answers_are_spared(answer: str) -> None:
    assert degeneracy(answer) is None


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_are_spared(language: str) -> None:
    assert degeneracy(SENTENCES[language]) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{{{{", "empty"),
        ("???!", "empty"),
        ("aaaaaaaa", "repetition"),
        ("the the the the", "repetition"),
        ("no, no, no, no", "repetition"),
        ("1\n1\n1\n1\n1", "repetition"),
        ("東京東京東京東京東京東京東京東京東京", "repetition"),
        ("bubbubbubbubbubbubbub", "repetition"),
        ("He was born in and and and and and and and and and and and", "repetition"),
        ("The answer is:\n\nThe answer is:\n\nThe answer is:\n\nThe answer", "repetition"),
        ("a )))((( - ) -- ((( --", "symbols"),
        ("when ** # list # * on until # *", "symbols"),
        ("sdkfjh qwlkj zxcvb fghjk", "non-words"),
        ("hjf sdlfk jsdhg dkfjs hldkf", "non-words"),
        ("x7#Gk2$pQz9^vL4&mT8*", "non-words"),
        ("oncology" * 2 + "bluetooth" * 2 + "mandolin" * 2 + "parliament" * 2, "non-words"),
        ("mythical cat traces southeastern objects knight likened megawatts biotechnology graduating", "word soup"),
        ("isesforestry umersdiam ride tensorricks irts forestry zones sayings infections indicator", "word soup"),
    ],
)
def test_each_reason_is_found(answer: str, reason: Reason) -> None:
    assert degeneracy(answer) == reason


@pytest.mark.parametrize("kind", GIBBERISH)
def test_gibberish_is_found(kind: str) -> None:
    least, make = GIBBERISH[kind]
    assert 1 - fluency(draws(0, 300, make)) >= least


@given(
    word=st.sampled_from("lan mek nor pis rud".split()),
    times=st.integers(5, 400),
    glue=st.sampled_from(["", " ", ", "]),
)
def test_a_word_for_ever_is_found_however_long(word: str, times: int, glue: str) -> None:
    assert degeneracy(glue.join([word] * max(times, 8))) == "repetition"


@given(answer=st.text(max_size=60))
def test_any_text_is_judged_and_white_space_around_it_does_not_count(answer: str) -> None:
    assert degeneracy(f" \n{answer}\t ") == degeneracy(answer)
    assert is_degenerate(answer) == (degeneracy(answer) is not None)
    assert degeneracy(answer) == "empty" or any(char.isalnum() for char in answer)


@given(answers=st.lists(st.sampled_from(["Oslo.", "1990", "", "{{{{", "東京"]), min_size=1, max_size=9))
def test_the_class_is_the_share(answers: list[str]) -> None:
    metric = Fluency()
    for answer in answers:
        metric.update([answer])
    assert metric.compute().item() == pytest.approx(fluency(answers))
    assert fluency(answers) == pytest.approx(1 - sum(answer in ("", "{{{{") for answer in answers) / len(answers))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_without_an_answer_there_is_no_share() -> None:
    with pytest.raises(MisconfigurationError, match="at least one answer"):
        fluency([])
    with pytest.raises(MisconfigurationError, match="at least one row"):
        Fluency().compute()


def test_a_model_with_random_weights_is_found_out(tokenizer: PreTrainedTokenizerFast) -> None:
    for seed in range(3):
        adapter = CausalLMAdapter(make_network(len(tokenizer), seed), tokenizer)
        assert fluency(adapter.generate(as_examples(FORGET + RETAIN), PLAIN, max_new_tokens=16)) == 0


def json_rows(name: str) -> Iterator[dict[str, str]]:
    with real_data(name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@pytest.fixture(scope="module")
def web_texts() -> list[str]:
    return [row["text"] for row in json_rows("c4/c4_en_200words.jsonl")]


@pytest.mark.real
def test_answers_of_tofu_are_spared() -> None:
    """Of 4000 answers and 4000 questions none was taken for gibberish when this was written."""
    for column in ("answer", "question"):
        assert fluency([row[column] for row in json_rows("tofu/full.jsonl")]) > 0.999


@pytest.mark.real
def test_facts_and_names_are_spared() -> None:
    """Of 868 options none; of 9097 answers of RESTOR, names of all languages and a few addresses, one."""
    for name in ("real_authors", "world_facts"):
        rows = list(json_rows(f"tofu/{name}.jsonl"))
        assert fluency([text for row in rows for key, text in row.items() if key != "question"]) == 1
    facts = json.loads(real_data("restor/facts.json").read_text(encoding="utf-8"))["dset"].values()
    answers = [answer for entity in facts for fact in entity.values() for answer in fact["answers"]]
    assert fluency(answers) > 0.999


@pytest.mark.real
def test_web_texts_are_spared(web_texts: list[str]) -> None:
    """Of 1480 texts 8 were lists that a machine filled in."""
    sentences = [each for text in web_texts for each in re.split(r"(?<=[.!?])\s", text) if any(map(str.isalnum, each))]
    assert fluency(web_texts) > 0.99
    assert fluency(sentences[:6000]) > 0.995


@pytest.mark.real
def test_soup_of_the_words_and_tokens_of_web_texts_is_found(web_texts: list[str]) -> None:
    """So small a vocabulary has many short tokens, which are harder to tell from words."""
    vocabulary = sorted({word for text in web_texts[:300] for word in re.findall(r"[a-z]{2,}", text.lower())})
    assert 1 - fluency(draws(1, 300, lambda draw: " ".join(draw.choices(vocabulary, k=24)))) > 0.9
    tokenizer = trained_tokenizer(web_texts, 16000)
    size = tokenizer.get_vocab_size()
    soup = draws(2, 300, lambda draw: str(tokenizer.decode([draw.randrange(size) for _ in range(48)])))
    assert 1 - fluency(soup) > 0.8


@pytest.mark.real
def test_loops_behind_a_sound_beginning_are_found() -> None:
    answers = [row["answer"].split() for row in json_rows("tofu/full.jsonl")]

    def looping(draw: random.Random) -> str:
        words = draw.choice(answers)
        return " ".join(words[: draw.randint(2, 8)] + words[: draw.randint(1, 4)] * draw.randint(16, 24))

    assert 1 - fluency(draws(3, 300, looping)) > 0.95


def trained_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Byte-level pieces, as a language model's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
