"""`blemish methods`: the catalogue, from what each method declares of itself."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from blemish.cli.console import console, needs_extra, write_json


def methods(
    name: Annotated[str | None, typer.Argument(help="show one method with its options")] = None,
    json: Annotated[Path | None, typer.Option(help="write the list as JSON; '-' is stdout")] = None,
) -> None:
    """List the methods, or show one with its paper and options."""
    with needs_extra("train"):
        from blemish.methods.catalogue import METHODS, method_class
    if json is not None:
        write_json([_as_dict(known, method_class(known).info) for known in METHODS], json)
        return
    if name is None:
        table = Table("method", "branch", "learns from", "answers", "in short", box=None, header_style="bold")
        for known in METHODS:
            info = method_class(known).info
            table.add_row(known, info.branch, ", ".join(info.requires), ", ".join(info.answers), info.summary)
        console.print(table)
        return
    kind = method_class(name)
    console.print(f"[bold]{kind.info.title}[/bold]  ({kind.info.name}, {kind.info.branch})")
    console.print(kind.info.summary)
    console.print(f"paper: {kind.info.paper}")
    console.print(f"learns from: {', '.join(kind.info.requires)}; answers: {', '.join(kind.info.answers)}\n")
    table = Table("option", "default", "meaning", box=None, header_style="bold")
    for option, field in kind.Options.model_fields.items():
        table.add_row(option, str(field.default), field.description or "")
    console.print(table)


def _as_dict(name: str, info: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": info.title,
        "branch": info.branch,
        "requires": list(info.requires),
        "answers": list(info.answers),
        "summary": info.summary,
    }
