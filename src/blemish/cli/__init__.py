"""The `blemish` command: one file a command, each importing its libraries only when it runs."""

import re
import sys
import warnings
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer

from blemish.cli.console import show_log
from blemish.errors import BlemishError

USAGE_ERROR: Any = typer.BadParameter.__mro__[2]  # ClickException, wherever this version of Typer has it
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# Help panels in the order of a user's way through the program. Each module has a function with the command's name, or
# a Typer app with that name for a command with sub-commands.
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
    "evaluate": "Evaluate",
    "report": "Evaluate",
    "explain": "Evaluate",
    "serve": "Station",
    "replay": "Station",
}


def build_app() -> typer.Typer:
    """All commands in one Typer app."""
    app = typer.Typer(
        name="blemish",
        help="Surface-defect inspection: what a defect is, where it is, and how much of it there is.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(show_log)
    for name, panel in COMMANDS.items():
        command = getattr(import_module(f"blemish.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
            for own in command.registered_commands:
                own.help = help_text(own.callback)
        else:
            app.command(name=name, rich_help_panel=panel, help=help_text(command))(command)
    return app


def help_text(command: Any) -> str:
    """The docstring of a command with each paragraph in one line; indented lines stay as they are."""
    return re.sub(r"(?<=\S)\n(?=\S)", " ", cleandoc(command.__doc__ or ""))


def show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning as one line without its place in the source, which means nothing to a user."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    warnings.showwarning = show_warning
    try:
        code = build_app()(standalone_mode=False)
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except USAGE_ERROR as error:
        message = error.format_message().replace("Value error, ", "").strip().rstrip(".")
        if message:  # empty where help was printed instead
            message = message[0].lower() + message[1:]
            print(f"blemish: {message} (see {error.ctx.command_path} --help)", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        print("blemish: interrupted; finished results are kept", file=sys.stderr)
    sys.exit(code or 0)
