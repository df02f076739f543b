"""The packaged recipes: finding them by name, and telling what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from soul_lightning.cli.arguments import nearest
from soul_lightning.exceptions import MisconfigurationError

_TELLING = {"audit": "audit", "requests": "methods", "compare": "optimizers", "restor": "stages"}
"""The command of a recipe by the first of these keys that it has; `fit` without any."""

_RUN_OF = "a run of the recipe "


@dataclass(frozen=True)
class Recipe:
    """A YAML file that a command runs.

    Attributes:
        name: What runs and their folders are called by.
        path: The file.
    """

    name: str
    path: Path

    @property
    def text(self) -> str:
        """What stands in the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def command(self) -> str:
        """The command that runs it, by the first key of `_TELLING` that it has."""
        found = (name for name, key in _TELLING.items() if re.search(rf"^{key}:", self.text, re.MULTILINE))
        return next(found, "fit")

    @property
    def title(self) -> str:
        """Its first comment line."""
        first = self.text.partition("\n")[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""

    def require(self, command: str) -> Recipe:
        """This recipe, or one sentence if another command runs it."""
        if self.command != command:
            raise MisconfigurationError(
                f"{self.name!r} is a recipe of another command; run soul-lightning {self.command} --config {self.name}"
            )
        return self


def recipe_comment(name: str) -> str:
    """The first line of the `config.yaml` of a run."""
    return f"# {_RUN_OF}{name}"


def packaged_recipes() -> dict[str, Recipe]:
    """The recipes inside the package, by name."""
    folder = Path(str(resources.files("soul_lightning.cli.recipes")))
    return {path.stem: Recipe(path.stem, path) for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name_or_path: str) -> Recipe:
    """A file if there is one of that path, else the packaged recipe of that name.

    Raises:
        MisconfigurationError: There is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        # A run's own config.yaml is run again under the name of its recipe; of restor and compare, the folder has it.
        above = path.resolve().parent.parent.name if path.name == "config.yaml" else ""
        return Recipe(run_recipe(path) or above or path.stem, path)
    return packaged_recipe(name_or_path)


def run_recipe(config: Path) -> str | None:
    """The recipe of the run that wrote a `config.yaml`; none where no run did."""
    title = Recipe("", config).title
    return title.removeprefix(_RUN_OF) if title.startswith(_RUN_OF) else None


def packaged_recipe(name: str) -> Recipe:
    """The packaged recipe of that name.

    Raises:
        MisconfigurationError: There is none.
    """
    recipes = packaged_recipes()
    if name not in recipes:
        raise MisconfigurationError(
            f"there is no file and no recipe {name!r}{nearest(name, recipes)}; the recipes are {', '.join(recipes)}"
        )
    return recipes[name]
