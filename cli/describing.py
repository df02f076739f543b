"""What a recipe's data holds, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from soul_lightning.cli.fitting import FitCLI
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.cli.terminal import output_console
from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.description import AS_IT_BEGINS, Description
from soul_lightning.exceptions import MisconfigurationError

SAMPLE_CHARACTERS = 400
"""So much of a row is shown from its beginning, and so much from its end."""
MEASURES = {
    "rows": "rows",
    "added by augmentation": "added",
    "subjects": "subjects",
    "tokens": "tokens",
    "labelled tokens": "labelled_tokens",
    "longest row, tokens": "longest",
    "rows cut": "truncated",
    "rows left out": "left_out",
    "repeated rows": "duplicates",
}
"""What stands in the table, and the attribute of `StreamDescription` that it shows."""


def describe(args: Sequence[str], recipe: str) -> Description:
    """Build a configuration's DataModule, with the tokenizer of its model, and describe it.

    Args:
        args: Command line arguments of `fit`.
        recipe: What the run would be called by.

    Raises:
        MisconfigurationError: The configuration or the data is not usable.
    """
    with as_sentences():
        cli = FitCLI(args, recipe, instantiate=False)
        built = cli.parser.instantiate_classes(cli.config)
        if not isinstance(built.data, StreamDataModule):
            raise MisconfigurationError(
                f"{type(built.data).__name__} cannot be described; describe takes DataModules of this package and "
                f"subclasses of StreamDataModule"
            )
        return built.data.describe(built.model.tokenizer)


def show_description(description: Description) -> None:
    """Print the streams, a row of each, the probes and the overlap."""
    console = output_console()
    table = Table(title=f"{description.datamodule}: streams", title_justify="left")
    table.add_column("")
    for stream in description.streams:
        table.add_column(stream.name, justify="right")
    for name, count in MEASURES.items():
        table.add_row(name, *(f"{getattr(stream, count):,}" for stream in description.streams))
    console.print(table)
    console.print(f"rows are cut at max_tokens={description.max_tokens}; {_overlap(description)}\n", highlight=False)
    for stream in description.streams:
        console.print(Text(f"first row of {stream.name}", style="bold"))
        console.print(Text(_shortened(stream.sample)), soft_wrap=False)
        console.print()
    probes = Table(title="probes", title_justify="left")
    for column in ("probe", "kind", "role"):
        probes.add_column(column)
    for column in ("rows", "subjects", "repeated"):
        probes.add_column(column, justify="right")
    for probe in description.probes:
        counts = (probe.rows, probe.subjects, probe.duplicates)
        probes.add_row(probe.name, probe.kind, probe.role, *(f"{count:,}" for count in counts))
    console.print(probes)


def _overlap(description: Description) -> str:
    names = {stream.name for stream in description.streams}
    if {"forget", f"retain{AS_IT_BEGINS}"} <= names:
        return "retain is streamed, and is searched for forget rows only as it is read"
    if not {"forget", "retain"} <= names:
        return "there are not both a forget and a retain stream, so nothing can stand in both"
    return str(description.overlap) if description.overlap else "no forget row or fact stands in retain"


def _shortened(text: str) -> str:
    if len(text) <= 2 * SAMPLE_CHARACTERS:
        return text
    return f"{text[:SAMPLE_CHARACTERS]} … {text[-SAMPLE_CHARACTERS:]}"
