"""What the commands share: where they print, and how they say that a part is not installed."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from blemish.errors import MissingExtraError

MOST_SEED = 2**32 - 1  # that NumPy takes

console = Console()
messages = Console(stderr=True)


def tell(message: str) -> None:
    """A line of progress, on stderr."""
    messages.print(f"[dim]›[/dim] {message}", highlight=False)


def write_json(value: Any, target: Path) -> None:
    """JSON to a file, or to stdout where the target is `-`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if str(target) == "-":
        sys.stdout.write(text + "\n")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="utf-8")


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; what is given is to be called with how many more are done."""
    from rich.progress import Progress

    with Progress(console=messages, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turns a missing library into one line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "blemish":
            raise
        raise MissingExtraError(f"{error.name} is not installed; pip install 'blemish[{extra}]'") from error
