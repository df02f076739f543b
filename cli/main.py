"""The entry point: finds the command, and turns what a user can mend into one sentence."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from rich.markup import escape

from soul_lightning import __version__
from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.terminal import error_console, is_first_process, output_console
from soul_lightning.exceptions import MisconfigurationError, RunInterrupted, TrainingDivergedError
from soul_lightning.run_folder import strict_json

COMMANDS = {
    "fit": "train or unlearn a model as a recipe says",
    "validate": "measure a model as it is with the callbacks of a recipe",
    "test": "the same for a final model: every example of every probe",
    "restor": "clean → corrupt → unlearn in several ways → one comparison table",
    "compare": "objectives × optimizers × seeds, every learning rate tuned alike",
    "requests": "unlearning requests one after another, withdrawn ones and sizes: what stays forgotten",
    "describe": "say what a recipe's data holds: rows, tokens, cuts, repeats, overlap, a sample",
    "audit": "is it really gone? every attack on a model, and a report",
    "recipes": "list, show or copy the packaged recipes",
    "export": "make a Hugging Face folder of a run or a checkpoint",
}
USAGE = """\
Usage: soul-lightning COMMAND [OPTIONS]

Unlearning for language models as PyTorch Lightning parts.

Commands:
{commands}

Options of every command:
  --help        what the command takes
  --debug       a traceback with every error

Options of those that run something (docs/terminal.md):
  --quiet       nothing but errors, and at the end where the results are
  --json        the summary as JSON is all that goes to stdout
  --jsonl       what happens as it happens, a JSON object a line

Start here:  soul-lightning fit --config quickstart
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: What stands after `soul-lightning`; the process's own arguments if none is given.

    Returns:
        The exit code: 0, 2 where the user has to mend something, 130 or 143 where SIGINT or SIGTERM ended the command.
    """
    given = list(sys.argv[1:] if args is None else args)
    debug, tells = "--debug" in given, "--jsonl" in given
    try:
        return _dispatch([argument for argument in given if argument != "--debug"])
    except SystemExit as stop:  # argparse's way to end after --help or --print_config
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (MisconfigurationError, TrainingDivergedError) as error:
        if debug:
            error_console().print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        sentence = " ".join(str(error).split())
        error_console().print(f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
        return _told(tells, sentence, 2)
    except RunInterrupted as stop:
        if not is_first_process():
            return 0  # lightning kills the first process, which speaks for all, when another one fails
        error_console().print(str(stop), markup=False, highlight=False, soft_wrap=True)
        return _told(tells, str(stop), 128 + stop.signal)
    except KeyboardInterrupt:
        error_console().print("interrupted", highlight=False)
        return _told(tells, "interrupted", 130)
    except Exception as error:
        _told(tells, f"{type(error).__name__}: {error}", 1)
        raise


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<12}{what}" for name, what in COMMANDS.items())
        output_console().print(USAGE.format(commands=commands), markup=False, highlight=False, soft_wrap=True)
        return 0
    if given[0] == "--version":
        output_console().print(f"soul-lightning {__version__}", highlight=False)
        return 0
    if given[0] not in COMMANDS:
        raise MisconfigurationError(
            f"there is no command {given[0]!r}{nearest(given[0], COMMANDS)}; the commands are {', '.join(COMMANDS)}"
        )
    # A user's own objectives are named by import path and lie where the command is run. Last, so that no file there
    # takes the place of an installed package.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    command = importlib.import_module(f"soul_lightning.cli.{given[0]}_command")
    code: int = command.run(given[1:])
    return code


def _told(tells: bool, message: str, code: int) -> int:
    """The exit code, after the event for it where events are asked for."""
    if tells and is_first_process():
        print(strict_json({"event": "error", "message": message, "exit_code": code}), flush=True)
    return code
