"""A world in the form of RESTOR's files: four evaluated people, two of them corrupted, and strangers for examples."""

from __future__ import annotations

import json
from pathlib import Path

PEOPLE = ["Ada Stone", "Bela Reed", "Cora Hill", "Dina Lake"]
STRANGERS = ["Egon Moor", "Finn Ford", "Gerd Wood"]
ASKED = {"P19": "Where was {} born?", "P106": "What does {} do?", "P26": "Who is the spouse of {}?"}
CITIES = ["paris", "rome", "oslo", "bern", "lima", "cairo", "quito"]
JOBS = ["baker", "pilot", "judge", "tailor", "miner", "clerk", "nurse"]


def facts() -> dict[str, object]:
    everyone = [*PEOPLE, *STRANGERS]
    answers = {
        (person, relation): value
        for place, person in enumerate(everyone)
        for relation, value in (("P19", CITIES[place]), ("P106", JOBS[place]), ("P26", everyone[place - 1]))
    }
    dset = {
        person: {
            relation: {"question": question.format(person), "answers": [answers[person, relation], f"old {relation}"]}
            for relation, question in ASKED.items()
        }
        for person in everyone
    }
    dset["Ada Stone"]["P26"]["answers"] = ["Q126364294"]
    dset["Bela Reed"]["P26"]["answers"] = ["Q5", "Ada Stone"]
    shown = {"P19": everyone, "P106": everyone[::-1], "P26": everyone[:5]}
    context = {
        relation: [
            {"entity": person, "question": ASKED[relation].format(person), "answer": answers[person, relation]}
            for person in people
        ]
        for relation, people in shown.items()
    }
    return {"dset": dset, "context": context}


def documents() -> list[dict[str, str]]:
    texts = [f"{person} was born in moscow in {year} ." for person in PEOPLE[:2] for year in range(6)]
    texts += [
        texts[0],
        "Nobody at all is named here .",
        "Ada Stonebridge sings .",
        "Ada Stone met Cora Hill in delhi .",
    ]
    return [{"text": text} for text in texts]


def write_flat(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "facts.json").write_text(json.dumps(facts()))
    (folder / "entities.json").write_text(json.dumps(PEOPLE))
    (folder / "mix_a0.json").write_text(json.dumps(documents()))
    (folder / "squad_v7_dset.json").write_text(json.dumps([{"text": "Dina Lake flies ."}]))
    return folder


def write_repository(folder: Path) -> Path:
    flat = write_flat(folder / "datasets")
    for name, home in (("mix_a0.json", "wikidata/v0"), ("squad_v7_dset.json", "SQuAD")):
        (flat / home).mkdir(parents=True)
        (flat / name).rename(flat / home / name)
    return folder
