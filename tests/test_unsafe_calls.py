"""Nothing in the package unpickles, evaluates a text or opens a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("soul_lightning", "callbacks", "cli", "datamodules", "benchmarks")
UNPICKLE = {
    f"{module}.{name}"
    for module in ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    for name in ("load", "loads", "open", "Unpickler")
} | {"pandas.read_pickle", "pd.read_pickle"}
EVALUATE = {"eval", "exec", "compile", "__import__"}
SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
YAML = {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load"}
ALWAYS = UNPICKLE | EVALUATE | SHELL | YAML


def faults(text: str) -> Iterator[str]:
    """Calls in a source text that run what they read."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (name for name in (f"{node.module}.{each.name}" for each in node.names) if name in ALWAYS)
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        spread = given.get(None, "")
        if name in ALWAYS:
            yield name
        elif (
            name.endswith("torch.load") and given.get("weights_only") != "True" and "'weights_only': True" not in spread
        ):
            yield name
        elif name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
            yield name
        elif given.get("shell", "False") != "False":
            yield f"{name}(shell=…)"
        elif name.startswith("Auto") and name.endswith(".from_pretrained"):
            if "trust_remote_code" not in given and "trust_remote_code" not in loading_settings(text):
                yield f"{name} without trust_remote_code"
            if "Model" in name and given.get("use_safetensors") != "True":
                yield f"{name} without use_safetensors"


def loading_settings(text: str) -> str:
    """The dict `settings` that is handed on to a loading function, as source."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AnnAssign)]
    return "".join(ast.unparse(node) for node in found if ast.unparse(node.target) == "settings")


def test_the_package_runs_nothing_that_it_reads() -> None:
    files = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 150
    found = {str(path.relative_to(ROOT)): list(faults(path.read_text(encoding="utf-8"))) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        "pickle.load(file)",
        "from pickle import loads",
        "joblib.load(path)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=chosen)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "exec(text)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "np.load(path, allow_pickle=True)",
        "AutoModelForCausalLM.from_pretrained(path, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(path)",
    ],
)
def test_each_fault_is_seen(text: str) -> None:
    assert list(faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "network.eval()",
        "re.compile(pattern)",
        "subprocess.run(command)",
        "AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, trust_remote_code=False)",
    ],
)
def test_what_is_safe_passes(text: str) -> None:
    assert not list(faults(text))
