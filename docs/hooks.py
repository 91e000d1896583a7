"""Pages of the site that are made from the program itself: every command with its options, and the JSON Schema."""

import json
from typing import Any

import click
import typer.main
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages; mkdocs calls this once it has read the folder."""
    files.append(File.generated(config, "reference/command-line.md", content=command_page()))
    files.append(File.generated(config, "reference/schema.md", content=schema_page()))
    return files


def command_page() -> str:
    from blemish.cli import build_app

    root = typer.main.get_command(build_app())
    lines = [
        "# Command line",
        "",
        "Exit codes: 0 all pass, 1 something is rejected, 3 something is up for review, 2 bad input.",
        "",
    ]
    for path, command in walk(root, "blemish"):
        lines += [f"## `{path}`", "", (command.help or "").strip(), ""]
        lines += option_table(command)
    return "\n".join(lines)


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """Every command that does something, depth first, with the words that call it."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    return [found for name, own in command.commands.items() for found in walk(own, f"{path} {name}")]


def option_table(command: click.Command) -> list[str]:
    rows = []
    for parameter in command.params:
        record = parameter.to_info_dict()
        if record.get("hidden") or parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        if isinstance(parameter, click.Argument):
            names = f"`{parameter.human_readable_name}`"
        choices = record["type"].get("choices")
        value = " \\| ".join(f"`{choice}`" for choice in choices) if choices else record["type"]["name"]
        default = (
            "" if parameter.default in (None, False, ...) or callable(parameter.default) else f"`{parameter.default}`"
        )
        text = (record.get("help") or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {names} | {value} | {default} | {text} |")
    return ["| | value | default | |", "|---|---|---|---|", *rows, ""] if rows else []


def schema_page() -> str:
    from blemish.inspection.convert import json_schema

    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    return (
        "# Inspection schema\n\nThe JSON of one inspection, as `blemish inspect --json`, the REST API and the "
        "sinks write it. A reader refuses a newer `schema_version` in one line.\n\n"
        f"```json\n{schema}\n```\n"
    )
