"""The last lines of a command: where the results are, how to open them, and what can be done next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import count, islice
from pathlib import Path

import yaml

from soul_lightning.cli.evaluating import EvaluationResult
from soul_lightning.cli.fitting import FitResult
from soul_lightning.cli.terminal import output_console
from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_terminal import audit_summary
from soul_lightning.run_folder import CONFIG_NAME, SUMMARY_NAME


def show_fit(result: FitResult) -> None:
    """Where the run, its model and its curves are, and what measures the model further."""
    lines: dict[str, str | Sequence[str]] = {"Results": f"{result.folder / SUMMARY_NAME}"}
    following = []
    if result.export is not None:
        lines["Model"] = _loading(result.export)
        if result.is_measured:
            following.append(_command("test", result.folder))
        if "stream/forget" in result.summary.get("data_hashes", {}):
            config = result.folder / CONFIG_NAME
            following.append(_command("audit", "--config", config, "--model", result.export))
    lines["Curves"] = result.logs
    show_closing(lines | {"Next": following})


def show_evaluation(result: EvaluationResult) -> None:
    """Where the numbers and the rows are."""
    show_closing({"Results": f"{result.folder / SUMMARY_NAME}", "Rows": f"{result.folder / 'rows'}"})


def show_restor(folder: Path) -> None:
    """Where the table, the plot, the claims, if there are any, and the stages are."""
    lines = {"Table": f"{folder / 'comparison.csv'}, {folder / 'comparison.png'}"}
    if (folder / "claims.md").is_file():
        lines["Claims"] = f"{folder / 'claims.md'}, {folder / 'claims.png'}"
    lines |= {
        "Results": f"{folder / SUMMARY_NAME}",
        "Stages": shlex.join(["tensorboard", "--logdir", str(folder)]),
        "Next": _more_seeds("restor", folder),
    }
    show_closing(lines)


def show_compare(folder: Path) -> None:
    """Where the table, the plot and what rates were tried are."""
    show_closing(
        {
            "Table": f"{folder / 'comparison.md'}, {folder / 'comparison.csv'}",
            "Plot": f"{folder / 'comparison.png'}",
            "Rates": f"{folder / 'tuning.csv'}",
            "Results": f"{folder / SUMMARY_NAME}",
            "Next": _more_seeds("compare", folder),
        }
    )


def show_requests(folder: Path) -> None:
    """Where the table, the plot and the runs are."""
    show_closing(
        {
            "Table": f"{folder / 'requests.csv'}",
            "Plot": f"{folder / 'requests.png'}",
            "Results": f"{folder / SUMMARY_NAME}",
            "Next": _more_seeds("requests", folder),
        }
    )


def show_audit(folder: Path, report: AuditReport) -> None:
    """What the audit says to each question, and where the report is."""
    output_console().print(audit_summary(report))
    show_closing({"Report": f"{folder / 'audit.html'}", "Text": f"{folder / 'audit.md'}, {folder / 'audit.json'}"})


def show_export(destination: Path, source: Path) -> None:
    """How the model is loaded, and what it was made of."""
    show_closing({"Model": _loading(destination), "From": str(source)})


def show_closing(lines: Mapping[str, str | Sequence[str]]) -> None:
    """One line each, paths and commands unbroken so that they can be copied; what is empty is left out."""
    console = output_console()
    for name, texts in lines.items():
        for place, text in enumerate([texts] if isinstance(texts, str) else texts):
            label = f"{name}:" if place == 0 else ""
            console.print(f"{label:<9}{text}", markup=False, highlight=False, soft_wrap=True)


def _loading(folder: Path) -> str:
    return f"AutoModelForCausalLM.from_pretrained({json.dumps(str(folder), ensure_ascii=False)})"


def _more_seeds(command: str, folder: Path) -> str:
    """The same with two seeds more; what is there is reused."""
    config = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    seeds = config.get("seeds", [0])
    taken = [*seeds, *config.get("tuning_seeds", ())]
    more = [*seeds, *islice((seed for seed in count() if seed not in taken), 2)]
    return _command(command, "--config", folder / CONFIG_NAME, "--output", folder, "--seeds", str(more))


def _command(command: str, *arguments: str | Path) -> str:
    return shlex.join(["soul-lightning", command, *map(str, arguments)])
