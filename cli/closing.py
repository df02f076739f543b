"""The last lines of a command: where the results are and how to open them."""

from __future__ import annotations

from pathlib import Path

from soul_lightning.cli.fitting import FitResult
from soul_lightning.cli.terminal import output_console
from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_terminal import audit_summary
from soul_lightning.run_folder import SUMMARY_NAME


def show_fit(result: FitResult) -> None:
    """Where the run, its model and its curves are."""
    lines = {"Results": f"{result.folder / SUMMARY_NAME}"}
    if result.export is not None:
        lines["Model"] = f'AutoModelForCausalLM.from_pretrained("{result.export}")'
    lines["Curves"] = f"tensorboard --logdir {result.folder}"
    show_closing(lines)


def show_restor(folder: Path) -> None:
    """Where the table, the plot, the claims, if there are any, and the stages are."""
    lines = {"Table": f"{folder / 'comparison.csv'}, {folder / 'comparison.png'}"}
    if (folder / "claims.md").is_file():
        lines["Claims"] = f"{folder / 'claims.md'}, {folder / 'claims.png'}"
    lines |= {"Results": f"{folder / SUMMARY_NAME}", "Stages": f"tensorboard --logdir {folder}"}
    show_closing(lines)


def show_compare(folder: Path) -> None:
    """Where the table, the plot and what rates were tried are."""
    show_closing(
        {
            "Table": f"{folder / 'comparison.md'}, {folder / 'comparison.csv'}",
            "Plot": f"{folder / 'comparison.png'}",
            "Rates": f"{folder / 'tuning.csv'}",
            "Results": f"{folder / SUMMARY_NAME}",
        }
    )


def show_requests(folder: Path) -> None:
    """Where the table, the plot and the runs are."""
    show_closing(
        {
            "Table": f"{folder / 'requests.csv'}",
            "Plot": f"{folder / 'requests.png'}",
            "Results": f"{folder / SUMMARY_NAME}",
        }
    )


def show_closing(lines: dict[str, str]) -> None:
    """One line each, paths unbroken so that they can be copied."""
    console = output_console()
    for name, text in lines.items():
        console.print(f"{name + ':':<9}{text}", markup=False, highlight=False, soft_wrap=True)


def show_audit(folder: Path, report: AuditReport) -> None:
    """What the audit says to each question, and where the report is."""
    output_console().print(audit_summary(report))
    show_closing({"Report": f"{folder / 'audit.html'}", "Text": f"{folder / 'audit.md'}, {folder / 'audit.json'}"})
