"""A run that something ended: how it says so, what it goes on from, and what is refused."""

from __future__ import annotations

import copy
import errno
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from transformers import LlamaForCausalLM

from tests.cli.conftest import Interrupt, Outcome, Run, write_rows, write_yaml
from tests.cli.test_fit_command import DATA, MODEL, assert_refused, change
from tests.conftest import RETAIN
from tests.faults.left import differences, summary_of, weights_of


def go_on(run: Run, outcome: Outcome) -> Outcome:
    """Run the command that a run has named as its last word."""
    command = shlex.split(outcome.error.partition("go on with: ")[2])
    assert command[:2] == ["soul-lightning", "fit"]
    return run(*command[1:])


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [(signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 6)],
    ids=["within an epoch", "at an epoch's end", "at the last step"],
)
def test_a_signal_ends_a_run_that_goes_on_as_if_nothing_had_been(
    run: Run, recipe: Path, interrupted: Interrupt, number: signal.Signals, code: int, step: int
) -> None:
    handlers = [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)]
    outcome = interrupted(number, step=step)
    assert outcome.code == code, outcome.err
    assert outcome.error.startswith(
        f"stopped by {number.name} after optimizer step {step}, which is saved; go on with:"
    )
    assert [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not Path("run/summary.json").exists()

    again = go_on(run, outcome)
    assert again.code == 0, again.err
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "whole").code == 0
    assert weights_of(Path("run/export")) == weights_of(Path("whole/export"))
    assert differences(summary_of(Path("run")), summary_of(Path("whole"))) == []


def test_the_command_to_go_on_keeps_what_is_no_setting(run: Run, interrupted: Interrupt) -> None:
    assert go_on(run, interrupted(signal.SIGTERM, args=("--export", "false"))).code == 0
    assert not Path("run/export").exists()
    assert Path("run/checkpoints/last.ckpt").exists()  # nothing else holds the weights


def test_without_checkpoints_a_signal_says_that_nothing_is_saved(interrupted: Interrupt) -> None:
    outcome = interrupted(signal.SIGTERM, step=2, args=("--trainer.enable_checkpointing", "false"))
    assert outcome.code == 143, outcome.err
    assert outcome.error == "stopped by SIGTERM after optimizer step 2, which is not saved"


def test_a_second_interrupt_does_not_wait(interrupted: Interrupt) -> None:
    outcome = interrupted(signal.SIGINT, signal.SIGINT, step=2)
    assert outcome.code == 130
    assert outcome.error == "interrupted"  # there was no checkpoint yet, and nothing to go on with
    assert interrupted(signal.SIGINT, signal.SIGINT, step=5, args=("--ckpt_path", "last")).error.startswith(
        "interrupted; go on with: soul-lightning fit"
    )


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The disk fills up in the middle of a file, once so many checkpoints were saved."""
    saved, write = [0], torch.save

    def save(checkpoint: Any, file: Any) -> None:
        write(checkpoint, file)
        saved[0] += 1
        if saved[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", save)


def test_a_full_disk_leaves_the_last_good_checkpoint(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("fit", "--config", recipe, "--trainer.default_root_dir", "run", "--checkpoint.every_n_steps", "2")
    with monkeypatch.context() as patched:
        full_disk(patched, after=2)
        outcome = run(*given)
    assert outcome.code == 2
    assert "last.ckpt cannot be written: No space left on device; the last checkpoint is whole" in outcome.error
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["last.ckpt"]
    assert go_on(run, outcome).code == 0


def test_a_full_disk_at_the_export(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_pretrained(_network: LlamaForCausalLM, folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr(LlamaForCausalLM, "save_pretrained", save_pretrained)
        outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", "run")
    assert outcome.code == 2
    assert outcome.error.startswith(
        "error: run/export cannot be written: No space left on device; the last checkpoint is"
    )
    assert not [path for path in Path("run").iterdir() if "export" in path.name]
    assert go_on(run, outcome).code == 0


def test_a_full_disk_before_the_first_checkpoint(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, after=0)
    outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", "run")
    assert outcome.code == 2
    assert outcome.error.endswith("No space left on device; mend that, or choose another folder")


def test_a_folder_that_may_not_be_written(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(path: Path, *_args: Any, **_settings: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", mkdir)
        outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", "run")
    assert outcome.code == 2
    assert outcome.error == "error: run cannot be accessed: Permission denied; mend that, or choose another folder"
    assert not Path("run").exists()


def test_a_damaged_checkpoint_is_refused_and_left_alone(run: Run, interrupted: Interrupt) -> None:
    assert interrupted(signal.SIGTERM).code == 143
    checkpoint = Path("run/checkpoints/last.ckpt")
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (whole[:middle], b"", flipped):
        checkpoint.write_bytes(damaged)
        before = contents(Path("run"))
        outcome = run("fit", "--config", "run/config.yaml", "--ckpt_path", "last")
        assert outcome.code == 2
        assert "'run/checkpoints/last.ckpt' is damaged or cut off, and is left as it is" in outcome.error
        assert contents(Path("run")) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the curves, to which a start adds an empty one."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "events" not in path.name}


OTHERS = [
    (f"{MODEL}.forget", {"class_path": "GradientAscent"}, "model.forget is NPO there and GradientAscent here"),
    (f"{MODEL}.forget.init_args.beta", 0.2, "model.forget.beta is 0.1 there and 0.2 here"),
    (f"{MODEL}.optimizer.init_args.lr", 0.1, "model.optimizer.lr is 0.001 there and 0.1 here"),
    (
        f"{MODEL}.optimizer",
        {"class_path": "soul_lightning.optim.Lion"},
        "model.optimizer is Sophia there and Lion here",
    ),
    (f"{MODEL}.network.lora", {"r": 4}, "model.network.lora.r is null there and 4 here"),
    (f"{DATA}.max_tokens", 16, "data.max_tokens is 32 there and 16 here"),
    ("seed_everything", 1, "seed_everything is 0 there and 1 here"),
]


def test_another_recipe_is_refused_before_anything_is_written(
    run: Run, config: dict[str, Any], interrupted: Interrupt
) -> None:
    assert interrupted(signal.SIGTERM).code == 143
    before, checkpoint = contents(Path("run")), "run/checkpoints/last.ckpt"
    for key, value, said in OTHERS:
        other = copy.deepcopy(config)
        if key.endswith("optimizer"):
            change(other, f"{MODEL}.curvature", None)
        change(other, key, value)
        given = ("--config", write_yaml(Path("other.yaml"), other), "--trainer.default_root_dir", "run")
        outcome = run("fit", *given, "--ckpt_path", checkpoint)
        assert_refused(outcome, said)
        assert f"the checkpoint '{checkpoint}' is of another recipe" in outcome.error
        assert contents(Path("run")) == before


def test_what_changes_nothing_but_memory_may_differ(run: Run, interrupted: Interrupt) -> None:
    assert interrupted(signal.SIGTERM).code == 143
    outcome = run("fit", "--config", "run/config.yaml", "--ckpt_path", "last", "--model.micro_batches", "2")
    assert outcome.code == 0, outcome.err


def test_other_rows_under_the_same_name_are_refused(run: Run, interrupted: Interrupt) -> None:
    assert interrupted(signal.SIGTERM).code == 143
    write_rows(Path("retain.jsonl"), [*RETAIN[:-1], ("egon plays the", "oboe")])
    outcome = run("fit", "--config", "run/config.yaml", "--ckpt_path", "last")
    assert outcome.code == 2
    assert "the rows of stream/retain are not those that the checkpoint was trained on" in outcome.error


@pytest.mark.parametrize("policy", ["cached_log_probs", "top_k_logits"])
def test_a_checkpoint_without_its_reference_is_refused(run: Run, interrupted: Interrupt, policy: str) -> None:
    assert interrupted(signal.SIGTERM, args=("--model.reference_policy", policy)).code == 143
    checkpoint = Path("run/checkpoints/last.ckpt")
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["soul_lightning"]["references"].pop("forget")["policy"] == policy
    torch.save(stored, checkpoint)
    before = contents(Path("run"))
    outcome = run("fit", "--config", "run/config.yaml", "--ckpt_path", "last")
    assert outcome.code == 2
    assert "the checkpoint at step 4 holds no reference for the forget objective NPO" in outcome.error
    assert contents(Path("run")) == before


def test_a_run_without_a_checkpoint_yet_begins_anew(run: Run, recipe: Path, config: dict[str, Any]) -> None:
    config["trainer"]["callbacks"] = [{"class_path": "HuggingFaceExport", "init_args": {"folder": "mine"}}]
    write_yaml(recipe, config)
    given = ("--trainer.default_root_dir", "run", "--ckpt_path", "last")
    assert run("fit", "--config", recipe, *given, "--checkpoint.keep", "true").code == 0  # the first start may say so
    Path("run/checkpoints/last.ckpt").unlink()
    Path("run/summary.json").unlink()
    change(config, "seed_everything", 1)
    outcome = run("fit", "--config", write_yaml(Path("other.yaml"), config), *given)
    assert_refused(outcome, "the run 'run' is of another recipe: seed_everything is 0 there and 1 here")
    assert run("fit", "--config", recipe, *given).code == 0
    assert json.loads(Path("run/summary.json").read_text())["optimizer_steps"] == 6


def test_a_complete_run_is_not_begun_anew(run: Run, recipe: Path) -> None:
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "run").code == 0
    before = contents(Path("run"))
    outcome = run("fit", "--config", "run/config.yaml", "--ckpt_path", "last")
    assert_refused(outcome, "the run 'run' is complete and has no checkpoint any more")
    assert contents(Path("run")) == before


def test_last_needs_a_run(run: Run, recipe: Path) -> None:
    assert_refused(run("fit", "--config", recipe, "--ckpt_path", "last"), "give its config.yaml with --config")
    assert_refused(run("validate", "--config", recipe, "--ckpt_path", "last"), "give its config.yaml with --config")
    assert not Path("runs").exists()


def test_what_a_killed_run_had_half_written_is_removed(run: Run, interrupted: Interrupt) -> None:
    assert interrupted(signal.SIGTERM).code == 143
    mark = "0" * 32
    halves = [Path(f"run/checkpoints/.last.ckpt.{mark}.tmp"), Path(f"run/.export.{mark}.tmp")]
    halves[0].write_bytes(b"half")
    halves[1].mkdir()
    others = Path("run/.notes.tmp")
    others.write_text("mine")
    assert run("fit", "--config", "run/config.yaml", "--ckpt_path", "last").code == 0
    assert not any(path.exists() for path in halves)
    assert others.exists()


def test_a_run_keeps_its_name(run: Run, recipe: Path, tmp_path: Path) -> None:
    for place in ("--trainer.default_root_dir", "elsewhere"), ():
        assert run("fit", "--config", recipe, *place, "--trainer.max_epochs", "1").code == 0
    (own,) = tmp_path.glob("runs/*/*")
    for folder in (Path("elsewhere"), own):
        again = run("fit", "--config", folder / "config.yaml", "--trainer.default_root_dir", folder / "again", "--json")
        assert json.loads(again.out)["recipe"] == "tiny"


def test_an_interval_below_one_is_refused(run: Run, recipe: Path) -> None:
    outcome = run("fit", "--config", recipe, "--checkpoint.every_n_steps", "0")
    assert_refused(outcome, "checkpoint.every_n_steps must be >= 1 or null, got 0")


def test_without_checkpoints(run: Run, recipe: Path) -> None:
    given = ("--trainer.default_root_dir", "run", "--trainer.enable_checkpointing", "false", "--export", "false")
    assert run("fit", "--config", recipe, *given).code == 0
    assert not Path("run/checkpoints").exists()
    assert yaml.safe_load(Path("run/config.yaml").read_text())["checkpoint"] == {"every_n_steps": 200, "keep": False}
