"""The `blemish` command: one file a command, each importing what it needs only when it runs."""

import sys
import warnings
from importlib import import_module
from typing import Any

import typer

from blemish.errors import BlemishError

EXIT_BAD_INPUT = 2

# Help groups in the order of a user's way through the program; each module has one function of the command's name,
# or a Typer app of that name for a command with sub-commands.
COMMANDS: dict[str, str] = {
    "demo": "Start here",
    "doctor": "Start here",
    "data": "Data",
    "synth": "Data",
    "augment": "Data",
    "methods": "Train",
    "plan": "Train",
    "train": "Train",
    "compare": "Train",
    "inspect": "Inspect",
    "decide": "Inspect",
    "scale": "Inspect",
    "enroll": "Inspect",
    "evaluate": "Judge",
    "report": "Judge",
    "explain": "Judge",
    "serve": "Station",
    "replay": "Station",
}


def build_app() -> typer.Typer:
    """All commands under one Typer app."""
    app = typer.Typer(
        name="blemish",
        help="Surface-defect inspection: what a defect is, where it is, and how much of it there is.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, panel in COMMANDS.items():
        command = getattr(import_module(f"blemish.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name=name, rich_help_panel=panel)(command)
    return app


def show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A line without the place in the program, which tells a user nothing."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    warnings.showwarning = show_warning
    try:
        build_app()()
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("blemish: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
