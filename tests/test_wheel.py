"""The wheel as a stranger gets it: built, installed elsewhere, every module imported, a recipe run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, pathlib, pkgutil, soul_lightning
home = pathlib.Path(soul_lightning.__file__).parent
assert home.parent == pathlib.Path({target!r}), home
names = [m.name for m in pkgutil.walk_packages([str(home)], "soul_lightning.") if not m.name.endswith("__main__")]
assert len(names) > 60, names
for name in names:
    importlib.import_module(name)
for bare in ("callbacks", "datamodules", "cli"):
    assert importlib.util.find_spec(bare) is None, bare
"""


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    """Run a command away from the checkout; the installed copy alone is importable."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_installs_elsewhere_and_runs(tmp_path: Path) -> None:
    wheels, target, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    # Without isolation the build uses this environment's setuptools and needs no index.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "soul_lightning/py.typed" in names
    assert {"soul_lightning/reports/audit.css", "soul_lightning/reports/audit.html.jinja"} <= set(names)
    assert any(name.startswith("soul_lightning/networks/packaged/tiny_world/clean/") for name in names)
    recipes = {path.relative_to(ROOT / "cli") for path in (ROOT / "cli" / "recipes").rglob("*.yaml")}
    assert {f"soul_lightning/cli/{path}" for path in recipes} <= set(names)
    assert all(name.startswith("soul_lightning") for name in names)
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    run(sys.executable, "-P", "-c", IMPORT_ALL.format(target=str(target)), cwd=empty, path=target)
    listed = run(sys.executable, "-P", "-m", "soul_lightning.cli", "recipes", "list", cwd=empty, path=target)
    assert "quickstart" in listed and "tofu-smollm2" in listed and "objective/" in listed
    run(
        sys.executable, "-P", "-m", "soul_lightning.cli", "fit", "--config", "quickstart",
        "--trainer.max_epochs", "1", "--trainer.default_root_dir", str(empty / "run"), cwd=empty, path=target,
    )  # fmt: skip
    assert (empty / "run" / "summary.json").is_file()
    assert (empty / "run" / "export" / "model.safetensors").is_file()
