"""The `blemish` command: one file a command, each importing its libraries only when it runs."""

import errno
import io
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path
from typing import Any, NoReturn

import typer

from blemish.cli.console import show_log
from blemish.errors import BlemishError
from blemish.files import write_atomic

USAGE_ERROR: Any = typer.BadParameter.__mro__[2]  # ClickException, wherever this version of Typer has it
EXIT_BAD_INPUT = 2
EXIT_UNFORESEEN = 70
EXIT_INTERRUPTED = 130
REASONS = {
    errno.ENOSPC: "no space left on the disk; free some, or choose another place",
    errno.EDQUOT: "no space left in the disk quota; free some, or choose another place",
    errno.EFBIG: "no space left in a file of limited size; choose another place",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.EACCES: "permission denied; choose another place, or change the file's permissions",
    errno.EPERM: "not permitted; choose another place, or change the file's permissions",
    errno.ENOENT: "the file or folder does not exist, or has vanished in the meantime",
    errno.EPIPE: "the program that reads the output has ended",
}
LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
OS_ERROR = re.compile(
    r"no space left on device|os error 28\b|disk is full|PytorchStreamWriter failed writing", re.IGNORECASE
)

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
    "benchmark": "Train",
    "inspect": "Inspect",
    "decide": "Inspect",
    "scale": "Inspect",
    "enroll": "Inspect",
    "certify": "Inspect",
    "compress": "Inspect",
    "evaluate": "Evaluate",
    "views": "Evaluate",
    "report": "Evaluate",
    "pod": "Evaluate",
    "explain": "Evaluate",
    "qualify": "Evaluate",
    "serve": "Station",
    "replay": "Station",
    "record": "Station",
    "sign": "Station",
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
    """Run the command line.

    Bad input and what the operating system refuses (a full disk, a read-only folder, a file that has vanished) are one
    line on stderr and exit code 2. Anything unforeseen is one line and exit code 70, with the traceback in a log file.
    """
    warnings.showwarning = show_warning
    # File names that are no UTF-8 are read as they are and printed with an escape, as on stderr.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        code = build_app()(standalone_mode=False)
    except BlemishError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except USAGE_ERROR as error:
        message = error.format_message().replace("Value error, ", "").strip().rstrip(".")
        if message:  # empty where help was printed instead
            message = message[0].lower() + message[1:]
            context = getattr(error, "ctx", None)
            fail(f"{message} (see {'blemish' if context is None else context.command_path} --help)", EXIT_BAD_INPUT)
        sys.exit(EXIT_BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except Exception as error:
        refused = refusal(error)
        if refused is not None:
            fail(refused, EXIT_BAD_INPUT)
        fail(f"unforeseen {type(error).__name__}: {error}; {write_traceback(error)}", EXIT_UNFORESEEN)
    if code == EXIT_INTERRUPTED:
        print("blemish: interrupted; finished results are kept", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        fail(refusal(error) or str(error), EXIT_BAD_INPUT)
    sys.exit(code or 0)


def fail(message: str, code: int) -> NoReturn:
    """End with one line on stderr, whatever the message."""
    with suppress(OSError):
        line = LINE_BREAK.sub(" ", message).encode("utf-8", "backslashreplace").decode()
        print("blemish:", line, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # what stdout cannot take would be reported again, with a traceback, at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def refusal(error: BaseException) -> str | None:
    """The operating system's error as a message with the file's name; None where the error is not of that kind.

    Libraries that write files themselves wrap its error in one of their own, or keep only its text.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            names = [os.fsdecode(name) for name in (cause.filename, cause.filename2) if isinstance(name, str | bytes)]
            reason = REASONS.get(cause.errno, (cause.strerror or os.strerror(cause.errno)).lower())
            return f"{' and '.join(names)}: {reason}" if names else reason
        if match := OS_ERROR.search(str(cause)):
            return f"{REASONS[errno.ENOSPC]} ({' '.join(match.string.split())})"
        cause = cause.__cause__ or cause.__context__
    return None


def write_traceback(error: BaseException) -> str:
    """Keep the traceback in a log file outside the data; returns where it is, as part of a sentence."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    text = "".join(traceback.format_exception(error))
    head = f"blemish {version('blemish')}, Python {sys.version.split()[0]}, {sys.platform}\n{sys.argv}\n\n"
    for folder in (Path(state) / "blemish", Path(tempfile.gettempdir())):
        path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        try:
            write_atomic(path, head + text)
        except OSError:
            continue
        return f"please report it with the traceback in {path}"
    return "its traceback could be written nowhere"
