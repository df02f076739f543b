"""A recipe builds subclasses of the declared types and nothing else: of every hostile one nothing has run."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from soul_lightning.cli.fitting import FitCLI, check_config
from soul_lightning.cli.main import main
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.exceptions import MisconfigurationError
from tests.cli.conftest import Run, write_yaml

OWN_CODE = '''
from pathlib import Path

from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from transformers import LlamaForCausalLM

from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives import GradientAscent


class Writes:
    """Any class whose making is noticed, and whose objects can be called."""

    def __init__(self, path: str) -> None:
        Path(path).touch()

    def __call__(self, *_: object) -> None:
        pass


def make_callback(path: str = "") -> Callback:
    Path(path).touch()
    return Callback()


def make_objective(path: str) -> GradientAscent:
    Path(path).touch()
    return GradientAscent()


def make_optimizer(parameters, path: str = "") -> Optimizer:
    if path:
        Path(path).touch()
    return AdamW(parameters)


class Loads:
    @staticmethod
    def network(path: str) -> LlamaForCausalLM:
        Path(path).touch()


class OwnObjective(GradientAscent):
    """A user's own objective."""

    def __init__(self, strength: float = 1.0, extra: object = None) -> None:
        super().__init__()
        self.strength = strength


class OwnOptimizer(AdamW):
    pass


class OwnModule(UnlearningModule):
    pass


def started(trainer: object, module: object) -> None:
    pass


def logits(network: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    return network(input_ids=input_ids, attention_mask=attention_mask).logits
'''


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that hostile recipes want to make; the module `own_code` can be imported."""
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_code", raising=False)
    return tmp_path / "canary"


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(config)
    *path, last = key.split(".")
    place = result
    for name in path:
        place = place[name]
    place[last] = value
    return result


def placed(value: Any, canary: Path) -> Any:
    """`value` with the canary's path in it."""
    if isinstance(value, dict):
        return {key: placed(inner, canary) for key, inner in value.items()}
    if isinstance(value, list):
        return [placed(inner, canary) for inner in value]
    return value.replace("CANARY", str(canary)) if isinstance(value, str) else value


def spec(class_path: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": arguments}


MODEL, DATA = "model.init_args.", "data.init_args."
POPEN = spec("subprocess.Popen", args=["touch", "CANARY"])
WRITES = spec("own_code.Writes", path="CANARY")
FILE = spec("logging.FileHandler", filename="CANARY")
DDP = "lightning.pytorch.strategies.DDPStrategy"
EVENTS = "lightning.pytorch.loggers.TensorBoardLogger"
HOSTILE: list[tuple[str, Any, str]] = [
    ("model", POPEN, "subprocess.Popen"),
    ("model", spec("own_code.Writes", path="CANARY"), "StreamModule"),
    ("model", spec("soul_lightning.UnlearningModule.load_from_checkpoint", checkpoint_path="CANARY"), "model"),
    (f"{MODEL}network", spec("own_code.Loads.network", path="CANARY"), "model.network"),
    (f"{MODEL}network", spec("transformers.PreTrainedModel.from_pretrained", weights_only=False), "model.network"),
    (f"{MODEL}network.lora", WRITES, "model.network.lora"),
    (f"{MODEL}forget", POPEN, "model.forget"),
    (f"{MODEL}forget", spec("own_code.make_objective", path="CANARY"), "is no class; name a subclass of Objective"),
    (f"{MODEL}forget", spec("own_code.OwnObjective", extra=WRITES), "model.forget.extra"),
    (f"{MODEL}forget", spec("own_code.OwnObjective", extra=[{"deep": WRITES}]), "model.forget.extra[0].deep"),
    (f"{MODEL}forget", spec("own_code.OwnObjective", extra=FILE), "logging.FileHandler"),
    (f"{MODEL}optimizer", "os.system", "model.optimizer: a recipe may not name 'os.system'"),
    (f"{MODEL}optimizer", POPEN, "model.optimizer"),
    (f"{MODEL}optimizer", WRITES, "Optimizer"),
    (f"{MODEL}optimizer", spec("own_code.make_optimizer", path="CANARY"), "name a subclass of Optimizer"),
    (f"{MODEL}optimizer", spec("functools.partial", func="os.system"), "functools.partial"),
    (f"{MODEL}curvature", WRITES, "model.curvature"),
    (f"{MODEL}lr_scheduler", {"decay": "cosine", "warmup_steps": WRITES}, "warmup_steps"),
    ("data", POPEN, "data"),
    (f"{DATA}tokenizer", spec("transformers.PreTrainedTokenizerFast", tokenizer_object=WRITES), "tokenizer_object"),
    (f"{DATA}tokenizer", spec("transformers.AutoTokenizer.from_pretrained"), "data.tokenizer"),
    (f"{DATA}template", WRITES, "data.template"),
    ("trainer.callbacks", [POPEN], "trainer.callbacks"),
    ("trainer.callbacks", [spec("own_code.make_callback", path="CANARY")], "name a subclass of Callback"),
    ("trainer.callbacks", [spec("LambdaCallback", on_fit_start=WRITES)], "trainer.callbacks[0].on_fit_start"),
    ("trainer.callbacks", [spec("LambdaCallback", on_fit_start="os.abort")], "os.abort"),
    ("trainer.callbacks", [{"class_path": "LambdaCallback", "dict_kwargs": {"on_fit_end": WRITES}}], "on_fit_end"),
    ("trainer.callbacks", [spec("Utility", forward=WRITES)], "forward"),
    ("trainer.callbacks", [spec("Utility", probes=[WRITES])], "probes"),
    ("trainer.logger", {**spec(EVENTS, save_dir="."), "dict_kwargs": {"writer": WRITES}}, "trainer.logger.writer"),
    ("trainer.strategy", spec(DDP, ddp_comm_state=WRITES), "trainer.strategy.ddp_comm_state"),
    ("trainer.strategy", spec(DDP, ddp_comm_hook=WRITES), "trainer.strategy.ddp_comm_hook"),
    ("trainer.strategy", {"class_path": DDP, "dict_kwargs": {"device_ids": WRITES}}, "trainer.strategy.device_ids"),
    ("trainer.plugins", [WRITES], "trainer.plugins"),
    ("trainer.profiler", WRITES, "trainer.profiler"),
    ("trainer.accelerator", WRITES, "trainer.accelerator"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "told"), HOSTILE, ids=[f"{case[0]}-{case[2]}" for case in HOSTILE])
def test_nothing_of_a_hostile_recipe_runs(
    canary: Path, config: dict[str, Any], key: str, value: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError) as refused, as_sentences():
        FitCLI(changed(config, key, placed(value, canary)), "hostile", tmp_path / "run")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not canary.exists()
    assert not (tmp_path / "run").exists()


def test_the_canary_is_written_where_nothing_checks(canary: Path) -> None:
    """Else the tests above would prove nothing."""
    import own_code  # type: ignore[import-not-found]

    own_code.Writes(str(canary))
    assert canary.exists()


HONEST: list[tuple[str, Any]] = [
    (f"{MODEL}forget", spec("own_code.OwnObjective", strength=2.0, extra={"plain": [1, "a"]})),
    (f"{MODEL}forget", "own_code.OwnObjective"),
    (f"{MODEL}optimizer", spec("own_code.OwnOptimizer", lr=0.1)),
    (f"{MODEL}optimizer", "own_code.make_optimizer"),
    (f"{MODEL}optimizer", spec("torch.optim.SGD", lr=0.1)),
    ("model.class_path", "own_code.OwnModule"),
    (f"{MODEL}network.lora", {"r": 2}),
    (f"{DATA}template", "chat"),
    (f"{DATA}retain", {"path": "retain.jsonl", "streamed": True}),
    ("trainer.callbacks", [spec("LambdaCallback", on_fit_start="own_code.started"), "Utility"]),
    ("trainer.callbacks", [spec("Utility", forward="own_code.logits"), spec("ModelCheckpoint", save_last=True)]),
    ("trainer.callbacks", [spec("Utility", probes={"forget": "forget.jsonl"})]),
    ("trainer.logger", [spec(EVENTS, save_dir="events"), spec("lightning.pytorch.loggers.CSVLogger", save_dir="csv")]),
    ("trainer.strategy", spec(DDP, find_unused_parameters=True)),
    ("trainer.profiler", "simple"),
]


@pytest.mark.parametrize(("key", "value"), HONEST, ids=[f"{key}-{number}" for number, (key, _) in enumerate(HONEST)])
def test_an_honest_recipe_is_built(
    canary: Path, config: dict[str, Any], key: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = changed(config, key, value)
    if key == f"{MODEL}optimizer":
        chosen = changed(chosen, f"{MODEL}curvature", None)
    with as_sentences():
        assert FitCLI(chosen, "honest", tmp_path / "run").model.terms


@pytest.mark.parametrize("command", ["fit", "describe", "validate", "test"])
def test_every_command_refuses(run: Run, canary: Path, config: dict[str, Any], tmp_path: Path, command: str) -> None:
    hostile = changed(config, f"{MODEL}forget", spec("own_code.OwnObjective", extra=placed(WRITES, canary)))
    outcome = run(command, "--config", write_yaml(tmp_path / "hostile.yaml", hostile))
    assert outcome.code == 2
    assert "model.forget.extra: 'own_code.Writes' would be built" in outcome.error
    assert not canary.exists()


def test_stages_are_refused_before_the_first_runs(
    run: Run, canary: Path, config: dict[str, Any], tmp_path: Path, model_folder: Path
) -> None:
    hostile = changed(config, f"{MODEL}forget", spec("own_code.OwnObjective", extra=placed(WRITES, canary)))
    recipe = {
        "fit": {"data": config["data"], "trainer": config["trainer"]},
        "stages": {
            "clean": {"pretrained": str(model_folder)},
            "corrupted": {"model": config["model"]},
            "npo": {"model": hostile["model"]},
        },
    }
    outcome = run("restor", "--config", write_yaml(tmp_path / "stages.yaml", recipe), "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "stage npo: model.forget.extra: 'own_code.Writes'" in outcome.error
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["fit", "restor"])
def test_yaml_tags_build_nothing(run: Run, canary: Path, tmp_path: Path, command: str) -> None:
    first = "stages:" if command == "restor" else "model:"
    recipe = tmp_path / "tags.yaml"
    recipe.write_text(
        f"# tags\n{first} !!python/object/apply:pathlib.Path.touch\n- !!python/name:pathlib.Path {canary}\n"
    )
    assert run(command, "--config", recipe).code == 2
    assert not canary.exists()


def test_the_exported_run_names_no_class_either(run: Run, canary: Path, recipe: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "a.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"nothing")
    network = placed(spec("own_code.Writes", path="CANARY"), canary)
    write_yaml(checkpoint.parent / "config.yaml", {"model": {"init_args": {"network": network}}})
    assert main(["export", str(checkpoint), str(tmp_path / "out")]) == 2
    assert not canary.exists()


def test_what_is_only_parsed_is_checked_too(canary: Path, config: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationError, match="name a subclass of Objective"):
        check_config(
            changed(config, f"{MODEL}forget", placed(spec("own_code.make_objective", path="CANARY"), canary)), "x"
        )
