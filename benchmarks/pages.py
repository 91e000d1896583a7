"""The generated parts of docs/methods/*.md and docs/benchmarks.md: declarations, options, advice and measured rows.

    python benchmarks/pages.py          # or: make docs

A generated part is between `<!-- made by benchmarks/pages.py: NAME -->` and `<!-- end -->`; the text around it is
written by hand. Options and the list of methods come from the methods' declarations, their order from the advisor's
rules, metrics from benchmarks/rows/*.jsonl, which the benchmarks write with --json; published.csv has the metrics of
the papers. What has no row says so.
"""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from listings import LISTINGS, NOT_MEASURED, evidence_sentence, linked, listed, method_tables
from pydantic.fields import FieldInfo
from table import markdown

from blemish.methods.catalogue import METHODS, method_class
from blemish.training.advice.rules import RULES
from blemish.training.learn.paper_options import PAPERS, Epochs

DOCS = Path(__file__).parents[1] / "docs"
START, END = "<!-- made by benchmarks/pages.py: {} -->", "<!-- end -->"
ANNOTATIONS = {
    "good": "good images",
    "label": "a label for each image",
    "mask": "masks of the defects",
    "boxes": "boxes of the defects",
    "template": "a template for each image",
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
    index.write_text(method_index(index.read_text()))
    papers = DOCS / "papers.md"
    papers.write_text(papers_page(papers.read_text()))
    page = DOCS / "benchmarks.md"
    page.write_text(benchmark_page(page.read_text()))


def method_index(text: str) -> str:
    """The list of methods with its generated parts renewed."""
    return filled(filled(text, "order", advised_order()), "methods", method_list())


def papers_page(text: str) -> str:
    """The options of the preset `paper`, and the methods that have none, with its generated parts renewed."""
    rows = [
        {
            "method": linked(name, "methods/"),
            "option": f"`{value.option}`",
            "value": f"{value.value.count} epochs" if isinstance(value.value, Epochs) else f"`{written(value.value)}`",
            "stated in": value.source,
        }
        for name, own in PAPERS.items()
        for value in own.values
    ]
    missing = [{"method": linked(name, "methods/"), "why": own.missing} for name, own in PAPERS.items() if own.missing]
    text = filled(text, "paper values", markdown(rows, ["method", "option", "value", "stated in"]))
    have = [own for own in missing if own["method"] in {row["method"] for row in rows}]
    none = [own for own in missing if own not in have]
    text = filled(text, "not carried over", markdown(have, ["method", "why"]))
    return filled(text, "without a preset", markdown(none, ["method", "why"]))


def benchmark_page(text: str) -> str:
    """The page of benchmarks with its generated parts renewed."""
    for name, listing in LISTINGS.items():
        text = filled(text, name, listed(listing))
    text = filled(text, "memory bank options", defaults(("patchcore", "padim")))
    return filled(text, "advisor rules", advisor_rules())


def filled(text: str, part: str, content: str) -> str:
    """The text with its generated part of that name replaced; ValueError where it has none."""
    start = START.format(part)
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"a page needs once the lines '{start}' and '{END}'")
    return pattern.sub(lambda _: f"{start}\n{content}\n\n{END}", text)


def method_page(name: str, text: str) -> str:
    """A method's page with its generated parts renewed."""
    for part, content in (("declaration", declaration), ("options", options), ("figures", measurements)):
        text = filled(text, part, content(name))
    return text


def declaration(name: str) -> str:
    """Title and declaration of a method."""
    info = method_class(name).info
    lines = {
        "method": f"`{name}` ({info.branch.replace('_', ' ')})",
        "paper": info.paper,
        "requires": ", ".join(ANNOTATIONS[kind] for kind in info.requires),
        "optional": ", ".join(ANNOTATIONS[kind] for kind in info.optional),
        "answers": ", ".join(info.answers),
        "advised": ", ".join(r.name for r in RULES if r.points.get(name, 0) > 0) or f"never: {info.never_advised}",
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
    how = f"`blemish train DATA --method {name} --set OPTION=VALUE`; `--set` can be repeated."
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
    """A value in the syntax of --set."""
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


def measurements(name: str) -> str:
    """The measured metrics of a method, on all sets."""
    where = "Setup, and other methods for comparison: [benchmarks](../benchmarks.md)."
    return "\n\n".join(["## Measured", *(method_tables(name) or [NOT_MEASURED]), where])


def method_list() -> str:
    """All methods by branch, one line each, in the advisor's order."""
    parts = []
    for branch, title in BRANCHES.items():
        names = sorted((name for name in METHODS if method_class(name).info.branch == branch), key=advised_rank)
        rows = [
            {
                "method": linked(info.name, ""),
                "requires": ", ".join(ANNOTATIONS[kind] for kind in info.requires),
                "answers": ", ".join(info.answers),
                "in short": info.summary,
            }
            for info in (method_class(name).info for name in names)
        ]
        parts.append(f"## {title}\n\n" + markdown(rows, ["method", "requires", "answers", "in short"]))
    return "\n\n".join(parts)


def advised_rank(name: str) -> int:
    """Sort key: the most points that one rule gives a method, the highest first; 0 where none does."""
    return -max((rule.points.get(name, 0) for rule in RULES), default=0)


def advised_order() -> str:
    """The methods that each rule of the advisor is for, in the order of their points."""
    lines = []
    for rule in RULES:
        names = sorted((n for n, points in rule.points.items() if points > 0), key=lambda n: -rule.points[n])
        if names:
            lines.append(f"- {rule.name}: {', '.join(linked(name, '') for name in names)}")
    never = [linked(name, "") for name in METHODS if method_class(name).info.never_advised]
    return "\n".join([*lines, f"- never advised, for the reasons on their pages: {', '.join(never)}"])


def advisor_rules() -> str:
    """The advisor's rules with their reasons and the measurements behind them."""
    rows = [
        {
            "rule": rule.name,
            "reason": rule.reason,
            "measured": " ".join(evidence_sentence(own, tuple(rule.points)) for own in rule.evidence) or NOT_MEASURED,
        }
        for rule in RULES
        if not rule.warns
    ]
    return markdown(rows, ["rule", "reason", "measured"])


if __name__ == "__main__":
    main()
