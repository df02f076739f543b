"""The recipes of a generated corruption and of the repair run from end to end, on small files with a tiny network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soul_lightning.scoring.answers import read_rows
from tests.cli.conftest import Run
from tests.datamodules.restor_world import write_flat
from tests.datamodules.text_world import write_retain

DATA = "--fit.data.init_args"


@pytest.fixture
def small(tmp_path: Path, model_folder: Path) -> list[str]:
    """Settings that make a recipe's files, network and steps small."""
    settings = [
        f"--stages.clean.pretrained={model_folder}",
        f"{DATA}.folder={write_flat(tmp_path / 'restor')}",
        f"{DATA}.retain={write_retain(tmp_path)}",
        f"{DATA}.retain_rows=8", f"{DATA}.control_probes=4", f"{DATA}.in_context_examples=1", f"{DATA}.batch_size=4",
        f"{DATA}.max_tokens=32", "--fit.trainer.accelerator=cpu", "--fit.trainer.precision=32-true",
        "--fit.trainer.logger=false", "--fit.trainer.enable_progress_bar=false", "--restoration.max_new_tokens=3",
    ]  # fmt: skip
    return settings


def steps(*stages: str) -> list[str]:
    return [f"--stages.{stage}.trainer.limit_train_batches=1" for stage in stages]


def hashes(folder: Path, stage: str) -> dict[str, str]:
    return dict(json.loads((folder / "seed0" / stage / "summary.json").read_text())["data_hashes"])


def test_a_generated_corruption_is_unlearnt_whole_and_simplified(run: Run, tmp_path: Path, small: list[str]) -> None:
    outcome = run(
        "restor", "--config", "restor-generated-smollm2", "--output", "out", *small,
        *steps("corrupted", "retain-only", "npo-sophia", "npo-sophia-simplified"),
        f"{DATA}.corruption.init_args.entities=2",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    whole, simplified = (hashes(tmp_path / "out", stage) for stage in ("npo-sophia", "npo-sophia-simplified"))
    assert {name for name in whole if whole[name] != simplified[name]} == {"stream/forget"}
    rows = read_rows(tmp_path / "out" / "seed0" / "corrupted" / "rows" / "restoration_unlearned.jsonl")
    assert len({row.subject for row in rows if row.role == "corrupted"}) == 2


def test_a_repair_follows_unlearning(run: Run, tmp_path: Path, small: list[str]) -> None:
    lima = tmp_path / "lima.jsonl"
    lima.write_text("".join(json.dumps({"instruction": f"who {n}", "output": "ada"}) + "\n" for n in range(8)))
    repaired = ("retain-only-lima", "npo-sophia-lima")
    outcome = run(
        "restor", "--config", "restor-smollm2-repair", "--output", "out", *small,
        *steps("corrupted", "retain-only", "npo-sophia", *repaired),
        *(f"--stages.{stage}.data.init_args.instructions={lima}" for stage in repaired),
        *(f"--stages.{stage}.data.init_args.batch_size=4" for stage in repaired),
        f"{DATA}.documents_per_entity=4",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "compare with retain-only-lima (repaired), which had the same repair" in " ".join(outcome.out.split())
    assert "stream/repair" in hashes(tmp_path / "out", "npo-sophia-lima")


def test_claims_rest_on_a_generated_corruption(run: Run, tmp_path: Path, small: list[str]) -> None:
    outcome = run(
        "restor", "--config", "claims-smollm2", "--output", "out", "--seeds=[0]", *small,
        *steps("corrupted", "retain-only", "graddiff", "klmax", "npo", "graddiff-sophia", "npo-sophia"),
        *steps("corrupted-context", *(f"{name}-context" for name in ("retain-only", "graddiff", "klmax", "npo"))),
        *steps("graddiff-simplified", "klmax-simplified"), "--stages.npo-simplified=null",
        "--claims.simplified forget sets help GA and KL=[{of: klmax-simplified, minus: klmax-context}]",
        f"{DATA}.corruption.init_args.entities=2",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    claims = json.loads((tmp_path / "out" / "summary.json").read_text())["claims"]
    assert [claim["evidence"] for claim in claims][2:4] == ["npo minus graddiff", "npo minus klmax"]
    assert "klmax-simplified minus klmax-context" in [claim["evidence"] for claim in claims]
    assert "lost facts" in claims[-1]["note"]
    plain, told, simplified = (
        hashes(tmp_path / "out", name) for name in ("klmax", "klmax-context", "klmax-simplified")
    )
    assert plain["stream/forget"] != told["stream/forget"] != simplified["stream/forget"]
    assert plain["stream/retain"] == told["stream/retain"] == simplified["stream/retain"]
