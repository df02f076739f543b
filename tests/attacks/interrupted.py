"""Attacks on a Hugging Face folder, killed in the middle: `python -m tests.attacks.interrupted`."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from soul_lightning.cli.mistakes import import_rooms
from tests.attacks.passes import Passes
from tests.conftest import make_tokenizer
from tests.faults.children import ended, start
from tests.faults.recipe import write_recipe

ATTACKS: list[dict[str, Any]] = yaml.safe_load(
    """
    - class_path: QuantizationAttack
      init_args: {schemes: [int8, int4], group_size: 16}
    - class_path: RelearningAttack
      init_args: {sources: [forget, related], share: 0.5}
    - class_path: PromptAttack
      init_args: {samples: 2}
    """
)
"""Attacks as a recipe names them; the probe of hidden states needs more rows than this data set has."""
SIGNALS = {signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 0, 143)}
"""How a command ends that is sent one; a Trainer that only measures may note SIGTERM and go on to its end."""


def files_of(folder: Path) -> dict[str, str]:
    """A hash of each file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


class Interrupted:
    """Runs of `soul-lightning test` on one folder.

    Args:
        folder: Where they go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["SOUL_CACHE"] = str(folder / "encoded")
        import_rooms()
        torch.set_num_threads(1)
        self._recipe = write_recipe(folder, "AdamW", make_tokenizer())
        self.model = folder / "model"

    def run(self, attack: dict[str, Any], sent: signal.Signals | None = None, at: int = 0) -> tuple[int, int]:
        """Attack the folder's model.

        Args:
            attack: As a recipe names it.
            sent: What the process sends itself.
            at: In which of the attack's passes.

        Returns:
            How it ended, and how many passes there were where it ended by itself.
        """
        name = f"{attack['class_path']}-{sent.name if sent else 'whole'}"
        config = yaml.safe_load(self._recipe.read_text())
        config["trainer"] |= {"callbacks": [attack], "default_root_dir": str(self.folder / name)}
        recipe, counted = self.folder / f"{name}.yaml", self.folder / f"{name}.count"
        recipe.write_text(yaml.safe_dump(config))
        passes = Passes(at, lambda: os.kill(os.getpid(), sent or 0))
        counting = passes.counted(lambda count: counted.write_text(str(count)))  # never left: the child ends within
        child = start(
            ["test", "--config", str(recipe), "--network", str(self.model)],
            self.folder / f"{name}.log",
            counting.__enter__,
        )
        code = ended(child)
        return code, int(counted.read_text()) if counted.exists() else 0


def main() -> int:
    """Kill every attack by every signal, print a table; returns 1 where a file of the model changed."""
    folder = Path(tempfile.mkdtemp(prefix="interrupted-"))
    runs = Interrupted(folder)
    model, harmed = files_of(runs.model), 0
    for attack in ATTACKS:
        code, passes = runs.run(attack)
        cases = {"whole": ["failed"] if code or passes < 2 else _changed(model, runs.model)}
        for sent, codes in SIGNALS.items():
            code, _ = runs.run(attack, sent, passes // 2)
            cases[sent.name] = [f"ended with {code}"] if code not in codes else _changed(model, runs.model)
        for case, found in cases.items():
            harmed += bool(found)
            print(f"{attack['class_path']:<30}{case:<10}{', '.join(found) or 'left alone'}", flush=True)
    if harmed:
        print(f"what they left: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _changed(before: dict[str, str], model: Path) -> list[str]:
    after = files_of(model)
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


if __name__ == "__main__":
    sys.exit(main())
