"""The packaged recipes: finding them by name, composing them of their layers, and telling what they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import yaml

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.recipe_layers import LAYERS, METHODS, Section, header, merged_sections, read_section
from soul_lightning.cli.recipe_writing import written
from soul_lightning.exceptions import MisconfigurationError

KINDS = ("model", "data", "objective", "optimizer", "stages")
"""Folders of layers beside the recipes."""
TASKS = "tasks"
"""The folder whose files hold a recipe for each of their methods: TASK/METHOD."""
METHOD = "METHOD"
"""Stands in the comments of a task for the method's name."""
_TELLING = {"audit": "audit", "requests": "methods", "compare": "optimizers", "restor": "stages"}
"""The command of a recipe by the first of these keys that it has; `fit` without any."""

_NAMES_LAYERS = re.compile(rf"\b{LAYERS}: *(\[\s*[^\d\s\]]|$|#)", re.MULTILINE)
"""Layers of a network are numbers: what is found is read, and this only spares reading what has none."""
_RUN_OF = "a run of the recipe "


@dataclass(frozen=True)
class Recipe:
    """A YAML file that a command runs, or one method of a task's file.

    Attributes:
        name: What runs and their folders are called by.
        path: The file.
        method: Which of the file's methods.
    """

    name: str
    path: Path
    method: str | None = None

    @cached_property
    def file_text(self) -> str:
        """What stands in the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def is_layered(self) -> bool:
        """Whether it says only a part itself."""
        return self.method is not None or _NAMES_LAYERS.search(self.file_text) is not None

    @cached_property
    def text(self) -> str:
        """The whole recipe as YAML, its layers merged in."""
        return self.composed(origins=False) if self.is_layered else self.file_text

    def composed(self, *, origins: bool) -> str:
        """The recipe with its layers merged in.

        Args:
            origins: Say behind each part which file it is from.
        """
        comments = [line.replace(METHOD, self.method or METHOD) for line in header(self.file_text)]
        comments += ["#", f"# {self.method}: {self.note}."] if self.note else []
        return "".join(f"{line}\n" for line in comments) + written(self.section(), origins)

    def section(self, opened: tuple[str, ...] = ()) -> Section:
        """The configuration, layers merged in.

        Args:
            opened: Recipes that this one is a layer of.

        Raises:
            MisconfigurationError: A layer does not exist, or stands on itself.
        """
        if self.name in opened:
            raise MisconfigurationError(
                f"the recipe {self.name!r} stands on itself: {' → '.join((*opened, self.name))}"
            )

        def open_layer(name: str) -> Section:
            beside = self.path.parent / name
            layer = Recipe(name, beside) if beside.is_file() else packaged_recipe(name)
            return layer.section((*opened, self.name))

        origin = self.name if self.method is None else f"{TASKS}/{self.path.stem}"
        return read_section(self.file_text, origin, open_layer, self.method)

    @property
    def command(self) -> str:
        """The command that runs it, by the first key of `_TELLING` that it has."""
        found = (name for name, key in _TELLING.items() if re.search(rf"^{key}:", self.text, re.MULTILINE))
        return next(found, "fit")

    @property
    def title(self) -> str:
        """Its first comment line."""
        lines = header(self.file_text)
        return lines[0].lstrip("# ").strip().replace(METHOD, self.method or METHOD) if lines else ""

    @property
    def note(self) -> str:
        """What stands behind its name among the methods of a task."""
        found = re.search(rf"^  {re.escape(self.method or '')}: +# (.*)$", self.file_text, re.MULTILINE)
        return found[1] if found and self.method else ""

    @property
    def is_layer(self) -> bool:
        """Whether it is a packaged part of recipes and no whole one."""
        return self.path.parent.parent == _folder() and self.path.parent.name in KINDS

    def require(self, command: str) -> Recipe:
        """This recipe, or one sentence if another command runs it."""
        if self.command != command:
            raise MisconfigurationError(
                f"{self.name!r} is a recipe of another command; run soul-lightning {self.command} --config {self.name}"
            )
        return self


def config_arguments(recipes: Sequence[Recipe]) -> list[str]:
    """`--config` arguments for lightning's parser.

    Where a layer is among several recipes, all of them are composed, as if a recipe named them under `layers`: a layer
    alone need not say of which class the model is.

    Raises:
        MisconfigurationError: Together they do not say of which class the model is.
    """
    if any(recipe.is_layer for recipe in recipes):
        whole = Section()
        for recipe in recipes:
            whole = merged_sections(whole, recipe.section())
        model = whole.entries.get("model")
        if model is None or isinstance(model.value, str) or "class_path" not in model.value.entries:
            named = " and ".join(recipe.name for recipe in recipes)
            raise MisconfigurationError(
                f"{named} do not say what is done with the model; add an objective, as in --config objective/npo"
            )
        return ["--config", written(whole, origins=False)]
    return [
        argument
        for recipe in recipes
        for argument in ("--config", recipe.text if recipe.is_layered else str(recipe.path))
    ]


def name_of(recipes: Sequence[Recipe]) -> str:
    """What a run of several recipes is called by: the last one that is no layer."""
    return next((recipe.name for recipe in reversed(recipes) if not recipe.is_layer), "layers")


def recipe_comment(name: str) -> str:
    """The first line of the `config.yaml` of a run."""
    return f"# {_RUN_OF}{name}"


@cache
def packaged_recipes() -> dict[str, Recipe]:
    """The whole recipes inside the package, by name; methods of tasks are TASK/METHOD."""
    found = {path.stem: Recipe(path.stem, path) for path in _files(_folder())}
    return found | {recipe.name: recipe for methods in packaged_tasks().values() for recipe in methods}


@cache
def packaged_tasks() -> dict[str, list[Recipe]]:
    """The tasks inside the package by name, each with a recipe for each of its methods."""
    return {
        path.stem: [Recipe(f"{path.stem}/{method}", path, method) for method in _methods(path)]
        for path in _files(_folder() / TASKS)
    }


def packaged_layers() -> dict[str, Recipe]:
    """The layers inside the package, by name: KIND/NAME."""
    paths = {f"{kind}/{path.stem}": path for kind in KINDS for path in _files(_folder() / kind)}
    return {name: Recipe(name, path) for name, path in paths.items()}


def find_recipe(name_or_path: str) -> Recipe:
    """A file if there is one of that path, else the packaged recipe or layer of that name.

    Raises:
        MisconfigurationError: There is none.
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
    """The packaged recipe or layer of that name.

    Raises:
        MisconfigurationError: There is none.
    """
    kind, slash, rest = name.partition("/")
    if re.fullmatch(r"[\w.-]{1,100}(/[\w.-]{1,100})?", name):  # no longer than a file's name may be
        path, task = _folder() / f"{name}.yaml", _folder() / TASKS / f"{kind}.yaml"
        if path.is_file() and (kind in KINDS or not slash):
            return Recipe(name, path)
        if task.is_file() and rest in _methods(task):
            return Recipe(name, task, rest)
    if name in packaged_tasks():
        raise MisconfigurationError(
            f"{name!r} is a task; name a method too, as in {packaged_tasks()[name][0].name}; "
            f"`soul-lightning recipes list {name}` shows them"
        )
    known = packaged_recipes() | packaged_layers()
    raise MisconfigurationError(
        f"there is no file and no recipe {name!r}{nearest(name, known)}; `soul-lightning recipes list` shows all"
    )


def _folder() -> Path:
    return Path(str(resources.files("soul_lightning.cli.recipes")))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"), key=lambda path: path.stem)


def _methods(path: Path) -> list[str]:
    """The methods of a task, in order."""
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))[METHODS])
