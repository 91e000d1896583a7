"""`blemish methods`: the catalogue, from each method's own declaration."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from blemish.cli.console import console, needs_extra, show_table, write_json
from blemish.cli.options import JsonOption

if TYPE_CHECKING:
    from blemish.methods.base import Method, MethodInfo


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="method to show with its options", show_default="all methods")
    ] = None,
    json: JsonOption = None,
) -> None:
    """List the methods, or show one with its paper and options."""
    with needs_extra("train"):
        from blemish.methods.catalogue import list_methods, method_class
    if name is None:
        rows = list_methods()
        if json is not None:
            write_json([_to_dict(row) | {"options": describe_options(method_class(row.name))} for row in rows], json)
            return
        show_table(
            ("method", "branch", "requires", "answers", "summary"),
            [(r.name, r.branch, ", ".join(r.requires), ", ".join(r.answers), escape(r.summary)) for r in rows],
        )
        return
    method = method_class(name)
    info, options = method.info, method.Options.model_fields
    if json is not None:
        write_json({**_to_dict(info), "options": describe_options(method)}, json)
        return
    console.print(f"[bold]{escape(info.title)}[/bold]  ({info.name}, {info.branch})")
    for line in (info.summary, f"paper: {info.paper}"):
        console.print(escape(line))
    console.print(f"requires: {', '.join(info.requires)}; answers: {', '.join(info.answers)}\n")
    show_table(
        ("option", "default", "meaning"),
        [(key, escape(str(field.default)), escape(field.description or "")) for key, field in options.items()],
    )


def describe_options(method: "type[Method]") -> dict[str, Any]:
    """Each option as JSON schema, with its default."""
    properties: dict[str, Any] = method.Options.model_json_schema()["properties"]
    return {
        key: {name: value for name, value in schema.items() if name != "title"} for key, schema in properties.items()
    }


def _to_dict(info: "MethodInfo") -> dict[str, Any]:
    keys = ("name", "title", "branch", "requires", "optional", "answers", "summary", "paper")
    return {key: list(value) if isinstance(value := getattr(info, key), tuple) else value for key in keys}
