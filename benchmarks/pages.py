"""The generated parts of docs/methods/*.md and docs/benchmarks.md: declarations, options and measured rows.

    python benchmarks/pages.py          # or: make docs

A generated part stands between `<!-- made by benchmarks/pages.py: NAME -->` and `<!-- end -->`; all around it is
written by hand. Options and the list of methods come from the methods' declarations, figures from
benchmarks/rows/*.jsonl, which the benchmarks wrote with --json; published.csv has the papers' figures. What has no row
says so.
"""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from listings import LISTINGS, NOT_MEASURED, linked, listed, of_method
from pydantic.fields import FieldInfo
from table import markdown

from blemish.methods.catalogue import METHODS, method_class

DOCS = Path(__file__).parents[1] / "docs"
START, END = "<!-- made by benchmarks/pages.py: {} -->", "<!-- end -->"
TRUTH = {
    "good": "good images",
    "label": "a label for each image",
    "mask": "masks of the defects",
    "boxes": "boxes of the defects",
    "template": "a template beside each image",
}
BRANCHES = {
    "feature_distance": "Good images alone: distances of features",
    "one_class": "Good images alone: one class",
    "reconstruction": "Good images alone: reconstruction",
    "restoration": "Good images alone: restoration",
    "classification": "Labelled defects: classification",
    "detection": "Labelled defects: detection",
    "segmentation": "Labelled defects: segmentation",
    "few_shot": "Few defects",
}


def main() -> None:
    for name in METHODS:
        path = DOCS / "methods" / f"{name}.md"
        path.write_text(method_page(name, path.read_text()))
    index = DOCS / "methods" / "index.md"
    index.write_text(filled(index.read_text(), "methods", method_list()))
    page = DOCS / "benchmarks.md"
    text = page.read_text()
    for name, listing in LISTINGS.items():
        text = filled(text, name, listed(listing))
    text = filled(text, "memory bank options", defaults(("patchcore", "padim")))
    page.write_text(text)


def filled(text: str, part: str, content: str) -> str:
    """The text with its generated part of that name replaced; ValueError where it has none."""
    start = START.format(part)
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"a page needs once the lines '{start}' and '{END}'")
    return pattern.sub(lambda _: f"{start}\n{content}\n\n{END}", text)


def method_page(name: str, text: str) -> str:
    """The page with its generated parts anew."""
    for part, content in (("declaration", declaration), ("options", options), ("figures", figures)):
        text = filled(text, part, content(name))
    return text


def declaration(name: str) -> str:
    """Title, and what a method says of itself."""
    info = method_class(name).info
    lines = {
        "method": f"`{name}` ({info.branch.replace('_', ' ')})",
        "paper": info.paper,
        "learns from": ", ".join(TRUTH[need] for need in info.requires),
        "uses besides, where images have it": ", ".join(TRUTH[need] for need in info.optional),
        "answers": ", ".join(info.answers),
    }
    table = ["| | |", "| --- | --- |", *(f"| {head} | {line} |" for head, line in lines.items() if line)]
    return f"# {info.title}\n\n{info.summary}\n\n" + "\n".join(table)


def options(name: str) -> str:
    """The table of a method's options."""
    rows = [
        {
            "option": f"`{option}`",
            "default": f"`{written(field.get_default(call_default_factory=True))}`",
            "values": allowed(field),
            "meaning": field.description,
        }
        for option, field in method_class(name).Options.model_fields.items()
    ]
    how = f"`blemish train DATA --method {name} --set OPTION=VALUE`, as many as are wanted."
    return f"## Options\n\n{how}\n\n" + markdown(rows, ["option", "default", "values", "meaning"])


def defaults(names: tuple[str, ...]) -> str:
    """One line a method: its options and their defaults."""
    lines = []
    for name in names:
        fields = method_class(name).Options.model_fields.items()
        values = (f"{option}={written(field.get_default(call_default_factory=True))}" for option, field in fields)
        lines.append(f"- {linked(name, 'methods/')}: `{' '.join(values)}`")
    return "\n".join(lines)


def written(value: Any) -> str:
    """As one would write it after --set."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
    return "''" if value == "" else str(value)


def allowed(field: FieldInfo) -> str:
    """The choices, or the limits of a number."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(written(choice) for choice in get_args(field.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{sign} {written(getattr(bound, name))}"
        for bound in field.metadata
        for name, sign in signs.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join(limits)


def figures(name: str) -> str:
    """What was measured of a method, on all sets."""
    where = "How and on what, and other methods beside it: [benchmarks](../benchmarks.md)."
    return "\n\n".join(["## Measured", *(of_method(name) or [NOT_MEASURED]), where])


def method_list() -> str:
    """All methods with a line each, by branch."""
    parts = []
    for branch, title in BRANCHES.items():
        infos = [info for info in (method_class(name).info for name in METHODS) if info.branch == branch]
        rows = [
            {
                "method": linked(info.name, ""),
                "learns from": ", ".join(TRUTH[need] for need in info.requires),
                "answers": ", ".join(info.answers),
                "in short": info.summary,
            }
            for info in infos
        ]
        parts.append(f"## {title}\n\n" + markdown(rows, ["method", "learns from", "answers", "in short"]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
