"""`soul-lightning export`: the command's own arguments; `soul_lightning.cli.exporting` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.terminal import speaking

DESCRIPTION = """\
Make a Hugging Face folder of a run or a checkpoint: safetensors and tokenizer, LoRA merged, no
optimizer."""
EPILOG = """\
  soul-lightning export runs/quickstart/20250101-120000 my-model
  soul-lightning export runs/quickstart/20250101-120000/checkpoints/last.ckpt my-model
  soul-lightning export packaged:tiny_world/clean my-model    a small model of the package

Of a run folder, its export/ is taken, else its newest checkpoint. A checkpoint needs the
config.yaml of its run, which is looked for beside it; --config names another place.
"""


def run(args: Sequence[str]) -> int:
    """Export a run or a checkpoint."""
    parser = CommandParser("export", DESCRIPTION, EPILOG)
    parser.add_argument("source", type=Path, help="a run folder, a .ckpt file, or packaged:NAME")
    parser.add_argument("destination", type=Path, help="a new folder")
    parser.add_argument("--config", type=Path, help="the config.yaml of the checkpoint's run")
    parser.add_modes()
    options = parser.parse_args(args)

    from soul_lightning.cli.closing import show_export
    from soul_lightning.cli.exporting import export

    with speaking("export", parser.mode(options)) as speaker:
        destination: Path = options.destination.expanduser()
        source = export(options.source.expanduser(), destination, options.config)
        speaker.close(destination, {"source": str(source)}, lambda: show_export(destination, source), key="export")
    return 0
