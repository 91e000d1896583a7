"""Pages of the site that are made from the program itself: commands with their options, the JSON Schema, layouts."""

import inspect
import json
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages; mkdocs calls this once it has read the folder."""
    files.append(File.generated(config, "reference/command-line.md", content=command_page()))
    files.append(File.generated(config, "reference/schema.md", content=schema_page()))
    files.append(File.generated(config, "reference/formats.md", content=formats_page()))
    return files


def command_page() -> str:
    from blemish.cli import build_app

    lines = [
        "# Command line",
        "",
        "Exit codes: 0 all pass, 1 something is rejected, 3 something needs review, 2 bad input.",
        "",
    ]
    for path, function in walk(build_app(), "blemish"):
        lines += [f"## `{path}`", "", inspect.cleandoc(function.__doc__ or ""), "", *parameter_table(function), ""]
    return "\n".join(lines)


def walk(app: typer.Typer, path: str) -> list[tuple[str, Callable[..., Any]]]:
    """Every command that does something, with the words that call it."""
    own = [
        (f"{path} {command.name or command.callback.__name__}", command.callback) for command in app.registered_commands
    ]
    return own + [
        found for group in app.registered_groups for found in walk(group.typer_instance, f"{path} {group.name}")
    ]


def parameter_table(function: Callable[..., Any]) -> list[str]:
    """A row for each argument and option of a command, from its annotations."""
    rows = ["| | values | default | |", "|---|---|---|---|"]
    defaults = inspect.signature(function).parameters
    for name, hint in get_type_hints(function, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, info = get_args(hint)[0], get_args(hint)[-1]
        words = [word for word in info.param_decls or () if word.startswith("-")] or [
            f"--{name.strip('_').replace('_', '-')}"
        ]
        shown = [info.metavar or name.upper()] if isinstance(info, typer.models.ArgumentInfo) else words
        default = info.show_default if isinstance(info.show_default, str) else defaults[name].default
        default = "" if default in (None, False, inspect.Parameter.empty) else str(default)
        help_text = (info.help or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {', '.join(f'`{word}`' for word in shown)} | {values(kind)} | {default} | {help_text} |")
    return rows if len(rows) > 2 else []


def values(kind: Any) -> str:
    """The values of an annotation: its choices, or the name of its type."""
    options = [own for own in get_args(kind) if own is not type(None)]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{option}`" for option in options)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    return values(options[0]) if options else getattr(kind, "__name__", str(kind)).lower()


def schema_page() -> str:
    from blemish.inspection.convert import json_schema

    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    return (
        "# Inspection schema\n\nThe JSON of one inspection, as `blemish inspect --json`, the REST API and the "
        "sinks write it. A reader refuses a newer `schema_version` in one line.\n\n"
        f"```json\n{schema}\n```\n"
    )


def formats_page() -> str:
    """One row a layout of data: what is read, when an image is good, what is set aside, whether it is written."""
    from blemish.dataset.read import FORMATS

    lines = [
        "# Layouts of data sets",
        "",
        "A layout is recognised by itself; `--format NAME` names it where several come into question. An image is good "
        "only where something says so: a folder, file name, column or class, or an annotation as in this table. What a "
        "folder, column or class says outranks an annotation. `--unlabelled good` takes images that have no annotation "
        "for good ones.",
        "",
        "Set aside in every layout, so that the label of the image is unknown, and named by `blemish data audit`: "
        "files that cannot be read, numbers that are none, boxes and outlines that cover no pixel, annotations made on "
        "an image of another shape, masks whose values do not say what is marked, images said to be good that have "
        "defects, and annotations whose image is missing.",
        "",
        "| layout | what is read | an empty annotation | no annotation | set aside or refused, besides | written |",
        "|---|---|---|---|---|---|",
    ]
    for name, layout in FORMATS.items():
        own = layout.convention
        empty = f"{own.annotation}: {'good' if own.empty_is_good else 'unknown'}" if own.annotation else "has none"
        cells = (
            f"`{name}`",
            layout.description,
            empty,
            "good" if own.absent_is_good else "unknown",
            layout.refused,
            "yes" if layout.write else "no",
        )
        lines.append("| " + " | ".join(escape_cell(cell) for cell in cells) + " |")
    default, whole = count_tested_faults()
    lines += [
        "",
        f"Tests try {whole:,} pairs of a layout and a fault, {default:,} of them in every run: in none does a further "
        "image become good, and what is not read is named.",
    ]
    return "\n".join(lines) + "\n"


def count_tested_faults() -> tuple[int, int]:
    """Numbers of pairs of a layout and a fault that tests try: in every run, and in all."""
    folder = str(Path(__file__).parents[1] / "tests" / "dataset")
    sys.path.append(folder)
    try:
        from fault_table import count_pairs, pairs, pairs_by_default
    finally:
        sys.path.remove(folder)
    return count_pairs(pairs_by_default()), count_pairs(pairs())


def escape_cell(text: str) -> str:
    """Text in a table of Markdown, as it stands."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
