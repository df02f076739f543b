"""Who is corrupted, which documents are trained on, and what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.datamodules.restor_documents import (
    count_naming_documents,
    detect_corrupted,
    false_statements,
    named_entities,
    select_documents,
)

PEOPLE = ["Ada Stone", "Bela Reed Jr.", "Cora"]


def test_only_whole_names_count() -> None:
    assert named_entities("Ada Stonebridge and Bela Reed", PEOPLE) == {}
    assert named_entities("Ada Stone's friend, (Bela Reed Jr.) and Coral", PEOPLE) == {
        "Ada Stone": 1,
        "Bela Reed Jr.": 1,
    }


def test_documents_are_counted_once_each() -> None:
    texts = ["Cora and Cora", "Cora", "Ada Stone"]
    assert list(count_naming_documents(texts, PEOPLE).items()) == [("Cora", 2), ("Ada Stone", 1)]


def test_mentions_by_the_way_do_not_corrupt() -> None:
    assert detect_corrupted({"a": 1061, "b": 642, "c": 33}) == ["a", "b"]
    assert detect_corrupted({"a": 300, "b": 299, "c": 36}) == ["a", "b"]
    assert detect_corrupted({}) == []


def test_many_corrupted_entities_are_all_found() -> None:
    counts = {f"entity {number}": 20 for number in range(50)}
    assert detect_corrupted(counts) == list(counts)


@given(per_entity=st.integers(1, 8), seed=st.integers(0, 99))
def test_a_selection_trains_on_so_many_and_leaves_the_rest(per_entity: int, seed: int) -> None:
    texts = [f"{person} did {number}" for person in PEOPLE for number in range(6)]
    chosen = select_documents([*texts, "nobody"], PEOPLE, per_entity, seed)
    for person in PEOPLE:
        own = [text for text in texts if person in text]
        assert len(chosen.trained[person]) == min(per_entity, 6)
        assert sorted([*chosen.trained[person], *chosen.left_out[person]]) == sorted(own)
    alone = select_documents(texts, PEOPLE[1:2], per_entity, seed)
    assert alone.trained["Bela Reed Jr."] == chosen.trained["Bela Reed Jr."]


def test_without_a_number_every_document_is_taken_in_the_order_of_the_file() -> None:
    texts = ["Cora one", "Ada Stone two", "Cora three"]
    chosen = select_documents(texts, PEOPLE, None, 0)
    assert chosen.trained == {"Ada Stone": ["Ada Stone two"], "Bela Reed Jr.": [], "Cora": ["Cora one", "Cora three"]}
    assert not any(chosen.left_out.values())


def test_a_document_belongs_to_whom_it_names_most() -> None:
    text = "Cora saw Ada Stone; Ada Stone waved"
    assert select_documents([text], ["Cora", "Ada Stone"], None, 0).trained == {"Cora": [], "Ada Stone": [text]}


def test_false_statements_are_without_the_name() -> None:
    texts = ["Bela Reed Jr. was born in Rome. Later Bela's spouse was ada.", "Cora is a pilot."]
    said = false_statements("Bela Reed Jr.", texts).splitlines()
    assert said == [". was born in Rome. Later", "'s spouse was ada."]
    assert false_statements("Cora", texts) == "is a pilot."
