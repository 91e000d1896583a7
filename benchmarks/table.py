"""Markdown tables of what the benchmarks wrote with --json: the form they have in docs/benchmarks.md.

    python benchmarks/table.py ROWS.jsonl [--columns method,set,AUROC] [--where set=bottle] [--drop seed]

Rows that differ in their seed alone become one, with mean ± standard deviation; a row measured twice counts as the last
time. Intervals of several seeds are left out, for they are of single runs.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Row = dict[str, Any]
# Columns that identify a measurement, in addition to the seed.
KEYS = (
    "method", "protocol", "program", "coreset", "options", "settings", "set", "classes", "shots", "engine", "way",
    "clients", "actors", "bundle", "images", "defective",
)  # fmt: skip
WITH_INTERVAL = re.compile(r"([+-]?\d+\.\d+) \(.+\)")


def read_rows(path: Path) -> list[Row]:
    """Rows of a file, options as text."""
    rows = [flat(json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    return [row | {"options": options_text(row["options"])} if "options" in row else row for row in rows]


# Names of sets by the folder or list that `blemish benchmark` reads.
SETS = {
    "wood_anomaly": "wood",
    "mpdd_metal_plate": "metal plate",
    "magnetic_tile_anomaly_by_tile": "tile by tile",
    "magnetic_tile_supervised_by_tile": "tile",
}
COSTS = {"training_s": "fit, s", "training_cpu_s": "fit, CPU s", "latency_ms": "ms an image", "size_mb": "MB"}


def flat(row: Row) -> Row:
    """A row of `blemish benchmark` in one level, with the names of columns; other rows as they are."""
    if "metrics" not in row:
        return row
    own = {name: row[name] for name in ("method", "protocol", "seed")}
    thresholds = ("calibration", "refine")  # no options of a method
    options = {name: value for name, value in row["options"].items() if name not in thresholds}
    own |= {"set": SETS.get(row["set"], row["set"]), "options": options}
    for name, value in row["metrics"].items():
        low_high = row["intervals"].get(name)
        if name == "image AUROC":
            own |= {name: round(value, 6), "95 %": f"{low_high[0]:.3f}–{low_high[1]:.3f}"}
        elif low_high:
            own[name] = f"{value:.3f} ({low_high[0]:.3f}–{low_high[1]:.3f})"
        else:
            own[name] = round(value, 6)  # a table rounds it once more
    own |= {column: round(row["cost"][name], 1) for name, column in COSTS.items() if name in row["cost"]}
    return own | {name: row["cost"][name] for name in ("threads", "device") if name in row["cost"]}


def options_text(options: Any) -> str:
    """An empty text where no option differs from its default."""
    if isinstance(options, dict):
        return " ".join(f"{key}={value}" for key, value in options.items())
    return "" if options == "{}" else str(options).strip()


def identity(row: Row) -> tuple[Any, ...]:
    """All that seeds of one measurement have in common; processors count as one, however many threads they ran."""
    return (*(row.get(key) for key in KEYS), str(row.get("device", "")))


def merged(rows: list[Row], digits: Callable[[str], int] | None = None) -> list[Row]:
    """One row for each of what was measured, over its seeds; `digits` of a column, else as many as its numbers have."""
    latest = {(*identity(row), row.get("seed")): row for row in rows}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in latest.values():
        groups.setdefault(identity(row), []).append(row)
    return [group[0] | _spread(group, digits) if len(group) > 1 else group[0] for group in groups.values()]


def _spread(group: list[Row], digits: Callable[[str], int] | None) -> Row:
    found: Row = {"seed": f"{len(group)} seeds"}
    for name in group[0]:
        values = [row.get(name) for row in group]
        if name in (*KEYS, "seed"):
            continue
        if name in ("threads", "device"):
            found[name] = ", ".join(sorted({str(value) for value in values if value is not None}))
        elif all(isinstance(value, int) for value in values) and len(set(values)) == 1:
            continue  # a count, such as of steps
        elif all(isinstance(value, int | float) for value in values):
            found[name] = _mean_and_deviation([str(value) for value in values], digits and digits(name))
        elif all(WITH_INTERVAL.fullmatch(str(value)) for value in values):
            found[name] = _mean_and_deviation([str(value).split(" ")[0] for value in values])
        elif len(set(map(str, values))) > 1:
            found[name] = ""
    return found


def _mean_and_deviation(texts: list[str], digits: int | None = None) -> str:
    """With as many digits as the most precise of the numbers, or so many; a sign where they have one."""
    digits = max(len(text.partition(".")[2]) for text in texts) if digits is None else digits
    sign = "+" if any(text.startswith("+") for text in texts) else ""
    values = [float(text) for text in texts]
    return f"{mean(values):{sign}.{digits}f} ± {stdev(values):.{digits}f}"


def markdown(rows: list[Row], columns: list[str]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(row.get(column, "")).replace("|", "\\|") for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--columns", help="comma-separated [default: all]")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--drop", default="", help="columns left out, comma-separated")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
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
