"""Markdown tables of what the benchmarks wrote with --json: the form they have in docs/benchmarks.md.

    python benchmarks/table.py ROWS.jsonl [--columns method,set,AUROC] [--where set=bottle] [--drop seed]

Rows that differ in their seed alone become one, with mean ± standard deviation; a row measured twice counts as the last
time. Intervals of several seeds are left out, for they are of single runs.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]
KEYS = ("method", "options", "set", "classes", "shots")


def merged(rows: list[Row]) -> list[Row]:
    """One row for each of what was measured, over its seeds."""
    latest = {tuple(row.get(key) for key in (*KEYS, "seed")): row for row in rows}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in latest.values():
        groups.setdefault(tuple(row.get(key) for key in KEYS), []).append(row)
    return [group[0] | _spread(group) if len(group) > 1 else group[0] for group in groups.values()]


def _spread(group: list[Row]) -> Row:
    found: Row = {"seed": f"{len(group)} seeds"}
    for name in group[0]:
        values = [row.get(name) for row in group]
        if name in (*KEYS, "seed"):
            continue
        if all(isinstance(value, int | float) for value in values):
            digits = max(len(str(value).partition(".")[2]) for value in values)
            found[name] = f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
        elif len(set(map(str, values))) > 1:
            found[name] = ""
    return found


def markdown(rows: list[Row], columns: list[str]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--columns", help="comma-separated [default: all]")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--drop", default="", help="columns left out, comma-separated")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.rows.read_text().splitlines() if line.strip()]
    for condition in arguments.where:
        key, _, value = condition.partition("=")
        rows = [row for row in rows if str(row.get(key, "")) == value]
    if not rows:
        parser.error(f"no row of {arguments.rows} is left")
    dropped = arguments.drop.split(",")
    columns = arguments.columns.split(",") if arguments.columns else [c for c in rows[0] if c not in dropped]
    print(markdown(merged(rows), columns))


if __name__ == "__main__":
    main()
