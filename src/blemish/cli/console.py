"""Output shared by the commands: two consoles, log messages, tables, JSON, progress, and missing extras."""

import json
import logging
import os
import stat
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from blemish.dataset.own_results import is_result, is_result_file
from blemish.errors import MissingExtraError, OptionError
from blemish.files import load_yaml, write_atomic

if TYPE_CHECKING:
    from blemish.dataset.sample import Dataset

RESULT_SUFFIXES = (".html", ".pdf", ".blemish")
UNLIMITED_WIDTH = 100_000  # of output that is no terminal: nothing is wrapped or cut


class WideConsole(Console):
    """A console that wraps lines in a terminal only; a pipe or a file gets each line in one piece."""

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        return super().size if self.is_terminal else ConsoleDimensions(UNLIMITED_WIDTH, 25)


console = WideConsole(highlight=False)
messages = WideConsole(stderr=True, highlight=False)


class MessageHandler(logging.Handler):
    """Log records as lines on stderr, above a progress bar: `› …`, and from WARNING on `warning: …`."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "[dim]›[/dim]" if record.levelno < logging.WARNING else f"[yellow]{record.levelname.lower()}:[/yellow]"
        messages.print(f"{prefix} {escape(record.getMessage())}", soft_wrap=True)


HANDLER = MessageHandler()


def show_log() -> None:
    """Print the messages of the library; calling it again changes nothing."""
    logger = logging.getLogger("blemish")
    logger.setLevel(logging.INFO)
    logger.addHandler(HANDLER)


def hide_log() -> None:
    """Undo `show_log`: leave the messages to other handlers."""
    logging.getLogger("blemish").removeHandler(HANDLER)


def warn(message: str, style: str = "yellow") -> None:
    """One line on stderr with a mark, for something that the user should check while the command continues."""
    messages.print(f"[{style}]![/{style}] {escape(message)}", soft_wrap=True)


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
    screen: Console | None = None,
) -> None:
    """Rows of cells (Rich markup) under column names; `right` names the columns that are aligned to the right.

    In a terminal the last column is wrapped before others are; elsewhere columns are padded with spaces and nothing is
    wrapped or cut.
    """
    screen = screen or console
    if screen.is_terminal:
        table = Table(box=None, header_style="bold", title=title, title_justify="left", show_header=any(columns))
        for number, name in enumerate(columns):
            table.add_column(name, justify="right" if name in right else "left", no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*row)
        screen.print(table)
        return
    lines = [[Text.from_markup(cell).plain for cell in row] for row in [columns, *rows] if any(row)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in [[title], *lines] if title else lines:
        cells = []
        for name, cell, width in zip(columns, line, widths, strict=False):
            padding = " " * (width - cell_len(cell))
            cells.append(padding + cell if name and name in right else cell + padding)
        screen.print("  ".join(cells).rstrip(), markup=False, soft_wrap=True)


def write_json(value: Any, target: Path) -> None:
    """JSON to a file, or to stdout where the target is `-`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if str(target) == "-":
        sys.stdout.write(text + "\n")
    else:
        write_atomic(target, text + "\n")


def check_writable(path: Path) -> None:
    """Raise OptionError for a page that cannot be written, before the work is done, not after."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        path.open("a", encoding="utf-8").close()
        if not there:
            path.unlink()  # else a command that fails would leave an empty page
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}; choose another file with --out") from error


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Raise OptionError where two outputs are one file, or an output is an input; call it before the first write.

    Links and other ways to write a path count as the file itself; `-` is stdout; devices are no such files. A folder
    among the inputs stands for the files in it that are no earlier result.
    """
    sources = [path for path in inputs if path is not None]
    read = {_file_identity(path) for path in sources}
    folders = [path.resolve() for path in sources if path.is_dir()]
    written: set[Hashable] = set()
    for path in outputs:
        own = None if path is None else _file_identity(path)
        if path is None or own is None:
            continue
        if own in read:
            raise OptionError(f"{path} is read, and would be overwritten; name another place for the results")
        among_data = path.is_file() and any(path.resolve().is_relative_to(folder) for folder in folders)
        if among_data and not _is_result(path):
            raise OptionError(f"{path} lies among the data, and would be overwritten; name another place")
        if own in written:
            raise OptionError(f"two results would be written to {path}; give each a file of its own")
        written.add(own)


def check_data_outputs(
    outputs: Iterable[Path | None], data: str, dataset: "Dataset", others: Iterable[Path | None] = ()
) -> None:
    """As `check_outputs`: no output may be a file of the data, whatever is read of it, or one of the others."""
    from blemish.dataset.contents import sample_files

    files = (file for sample in dataset.samples for file in sample_files(sample))
    check_outputs(outputs, [Path(data), *others, *files])


def _is_result(path: Path) -> bool:
    """Whether a file is what a command wrote: a page or bundle, or JSON or YAML with a key that no data set has."""
    if path.suffix.lower() in RESULT_SUFFIXES:
        return True
    if path.suffix.lower() == ".json":
        return is_result_file(path)
    try:
        return path.suffix.lower() in (".yaml", ".yml") and is_result(load_yaml(path, str(path)))
    except (ValueError, OptionError):
        return False


def _file_identity(path: Path) -> Hashable:
    """A key that all paths of one file share; None where there is no regular file to overwrite."""
    if str(path) == "-":
        return "-"
    try:
        found = path.stat()
    except OSError:
        return os.path.normcase(path.resolve())
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def progress_bar() -> Progress:
    """A bar on stderr with counts and the time left, for a terminal only."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; call the function that it yields with the number of further items done."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn a missing library into one line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "blemish":
            raise
        raise MissingExtraError(f"{error.name} is not installed; pip install 'blemish[{extra}]'") from error
