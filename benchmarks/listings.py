"""The tables of docs/benchmarks.md: their rows and columns."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import Row, markdown, merged, read_rows

from blemish.methods.catalogue import METHODS
from blemish.training.advice.rules import Evidence

HERE = Path(__file__).parent
NOT_MEASURED = "Not measured yet."
NO_ESCAPES = "Escapes at 1 % and 5 % false alarms were not measured in these rows."
CONDITIONS = ("set", "classes", "options", "shots", "settings")
# Digits after the point; of all other numbers that are no integers: three.
DIGITS = {
    **dict.fromkeys(("fit, s", "fit, CPU s", "peak MB"), 0),
    **dict.fromkeys(("ms an image", "network, ms", "MB", "parameters, M", "images a second", "parts a second"), 1),
    **dict.fromkeys(("p50, ms", "p95, ms", "plain inspector", "service, ms", "share of peak"), 1),
    **dict.fromkeys(("of the bare network", "ratio"), 2),
}


@dataclass(frozen=True)
class Listing:
    """A table: the files and rows, their order, and the columns; empty columns are left out."""

    rows: str  # of benchmarks/rows/: the files of this name, and of this name with -anything after it
    columns: tuple[str, ...] = ()  # none: as the rows have them
    where: Callable[[Row], bool] = lambda row: True
    order: tuple[str, ...] = ("method", "options")
    heads: tuple[tuple[str, str], ...] = ()  # columns that are shown by another name


def is_of_set(name: str) -> Callable[[Row], bool]:
    return lambda row: row.get("set") == name


COST = ("fit, s", "fit, CPU s", "trained on", "ms an image", "network, ms", "MB")
# Share of the defective test images that pass at a false-alarm rate, with its exact 95 % interval.
ESCAPES = ("escape at 1 %", "escape at 5 %")
ANOMALY = (
    "method", "protocol", "options", "seed", "image AUROC", "published", "95 %", *ESCAPES, "pixel AUROC", "pixel AP",
    "AUPRO", "AUPRO 0.05", "AUPIMO", "region IoU", *COST,
)  # fmt: skip
KINDS = (
    "method",
    "protocol",
    "options",
    "seed",
    "accuracy",
    "accuracy 95 %",
    "balanced",
    "macro F1",
    "AUROC",
    "AUROC 95 %",
    "ECE",
    *COST,
)
ACCURACY = (("accuracy 95 %", "95 %"),)
BOXES = (
    "method",
    "protocol",
    "options",
    "seed",
    "mAP50",
    "mAP",
    "mAP75",
    "found at 1",
    "parameters, M",
    "steps",
    *COST,
)
PIXELS = ("method", "protocol", "options", "seed", "region IoU", "mIoU", "pixel AP", "AUPRO", "defects found")
WHOLE = ("image AUROC", "95 %", *ESCAPES, "escape", "overkill")
TILE_KINDS = ("method", "protocol", "seed", "accuracy", "balanced accuracy", "macro F1", *WHOLE, "ECE", *COST)
MASKS = (*PIXELS, *WHOLE, *COST)
WHOLE_DEFECTS = (
    "method", "set", "options", "seed", "instance AP50", "IoU", "defects found", "measured", "area error",
    "length error", *COST,
)  # fmt: skip
GEOMETRY = (
    "set", "options", "settings", "defects", "found", "image IoU", "IoU, all", "IoU, found", "length ratio",
    "length error", "width ratio", "width error", "area ratio", "area error", "length within u", "width within u",
    "area within u",
)  # fmt: skip
MARKED = ("images", "boxes", "boxes found", "regions", "regions right")
GAINS = tuple(
    f"{gain}{figure}"
    for figure in ("IoU", "mean IoU", "defects found", "accuracy", "macro F1")
    for gain in ("", "gain in ")
)
FEW = ("image AUROC", *ESCAPES, "image AP", "by the map", "pixel AUROC", "pixel AP")

FEW_DEFECTS = {
    "episodes": Listing(
        "few",
        ("set", "classes", "ways", "shots", "method", "settings", "seed", "accuracy", "episodes"),
        lambda row: "ways" in row,
        order=("set", "classes", "shots", "method"),
        heads=(("classes", "unseen classes"),),
    ),
    "synthetic": Listing(
        "few",
        ("method", "set", "shots", "options", "settings", "seed", *GAINS),
        lambda row: row["set"] == "tile" and {"IoU", "macro F1"} & set(row) and "from" not in row["options"],
        order=("method", "shots"),
        heads=(("shots", "defects of a class"), ("options", "synthetic defects")),
    ),
    "mixed": Listing(
        "few",
        ("method", "set", "options", "shots", "settings", "seed", *FEW),
        lambda row: row["set"] == "tile" and "image AUROC" in row,
        order=("method", "options", "shots"),
        heads=(("shots", "defects of a class"), ("options", "they have")),
    ),
    "bank": Listing(
        "few",
        ("method", "set", "options", "shots", "settings", "seed", *FEW),
        is_of_set("bottle"),
        order=("method", "shots"),
        heads=(("shots", "good images"), ("options", "they are kept")),
    ),
    "transfer": Listing(
        "few",
        ("set", "shots", "options", "settings", "seed", *GAINS),
        lambda row: str(row.get("options")).startswith("from "),
        order=("set", "shots"),
        heads=(("set", "learns"), ("shots", "images of a class"), ("options", "start")),
    ),
}
LISTINGS = {
    "memory bank": Listing(
        "unsupervised",
        ("method", "set", *ANOMALY[1:]),
        lambda row: row["method"] in ("patchcore", "padim"),
        order=("method", "set", "options"),
    ),
    "peer": Listing(
        "patchcore",
        ("program", "coreset", "fit, s", "ms an image", "peak MB", "image AUROC", "threads"),
        order=("coreset", "program"),
    ),
    "peers": Listing(
        "peers",
        ("set", "method", "steps", "program", "image AUROC", "pixel AP", "AUPRO", *COST, "peak MB"),
        order=("set", "method", "program"),
    ),
    "bottle": Listing("unsupervised", ANOMALY, is_of_set("bottle")),
    "wood": Listing("unsupervised", ANOMALY, is_of_set("wood")),
    "tile by tile": Listing("unsupervised", ANOMALY, is_of_set("tile by tile")),
    "choosing": Listing(
        "unsupervised",
        ("set", *ANOMALY),
        lambda row: row.get("set") in ("pill", "metal plate"),
        order=("set", "method"),
    ),
    "elpv, good images": Listing("unsupervised", ANOMALY, is_of_set("elpv")),
    "template": Listing("template", ("method", "options", "seed", *MARKED, *COST)),
    "neu": Listing("classification", KINDS, is_of_set("neu"), heads=ACCURACY),
    "elpv": Listing("classification", KINDS, is_of_set("elpv"), heads=ACCURACY),
    "tile, classes": Listing("classification", TILE_KINDS, is_of_set("tile")),
    "roi": Listing(
        "roi",
        ("set", "options", "method", "seed", "accuracy", "macro F1", "image AUROC", "95 %", *ESCAPES),
        order=("set", "options", "method"),
        heads=(("options", "images"),),
    ),
    "explain": Listing(
        "explain",
        ("method", "images", "pointing game", "within 15 px", "IoU", "share of peak"),
        order=(),
    ),
    "neu-det": Listing("detection", BOXES, is_of_set("neu_det")),
    "deeppcb": Listing("detection", BOXES, is_of_set("deeppcb")),
    "tile, masks": Listing("segmentation", MASKS, is_of_set("tile")),
    "instances": Listing("instances", WHOLE_DEFECTS, order=("method", "set")),
    "geometry": Listing(
        "geometry",
        GEOMETRY,
        order=("set", "options", "settings"),
        heads=(("options", "kind"), ("settings", "regions")),
    ),
    **FEW_DEFECTS,
    "conditions": Listing(
        "conditions",
        ("set", "options", "method", "seed", "image AUROC", "95 %", *ESCAPES, "pixel AUROC", "AUPRO"),
        order=("set", "options", "method"),
        heads=(("options", "images"),),
    ),
    "views": Listing(
        "views",
        ("set", "options", "method", "seed", "image AUROC", "95 %", *ESCAPES, "pixel AUROC", "AUPRO", "ms an image"),
        order=("set", "method", "options"),
        heads=(("options", "input"),),
    ),
    "advisor": Listing(
        "advisor",
        ("set", "figure", "plan names", "the advisor's order", "measured", "better of two", "pairs", "best measured"),
        order=(),
        heads=(("figure", "metric"),),
    ),
    "inspector": Listing(
        "inspector",
        (
            "method",
            "engine",
            "threads",
            "batch",
            "images",
            "defective",
            "way",
            "images a second",
            "ms beyond the network",
            "of the bare network",
        ),
        order=("method", "engine", "threads", "defective"),
    ),
    "engines": Listing(
        "engines",
        (
            "method",
            "engine",
            "device",
            "threads",
            "images",
            "ms an image",
            "times as fast",
            "score difference",
            "map difference",
            "same verdicts",
        ),
        order=("method", "engine", "device"),
    ),
    "int8": Listing(
        "int8",
        (
            "method",
            "options",
            "engine",
            "threads",
            "images",
            "ms, float32",
            "ms, int8",
            "times as fast",
            "graph, MB",
            "AUROC",
            "pixel AP",
            "box mAP50",
            "verdicts changed",
        ),
        order=("method", "engine"),
    ),
    "fit speed": Listing(
        "fit_speed",
        (
            "method",
            "set",
            "options",
            "steps",
            "threads",
            "fit, nothing kept, s",
            "fit, memory kept, s",
            "fit, all kept, s",
            "times as fast",
            "image AUROC, nothing kept",
            "image AUROC, all kept",
        ),
        order=("set", "method"),
    ),
    "cluster": Listing(
        "cluster",
        (
            "actors",
            "images",
            "shard",
            "seconds",
            "images a second",
            "times one actor",
            "CPU, ms",
            "overhead, ms",
            "driver, MB",
            "driver growth, MB",
            "actor, MB",
            "actor growth, MB",
        ),
        order=("images", "actors"),
    ),
    "station": Listing(
        "station",
        (
            "set",
            "clients",
            "parts a second",
            "p50, ms",
            "p95, ms",
            "plain inspector",
            "ratio",
            "ms an image",
            "service, ms",
        ),
        lambda row: "service, ms" in row,
        order=("set", "clients"),
        heads=(("set", "images of"),),
    ),
    "killed": Listing(
        "station",
        ("parts", "kills", "answered", "in the record", "doubled", "lost or changed"),
        lambda row: "kills" in row,
        order=(),
    ),
    "soak": Listing(
        "station",
        (
            "soak, min",
            "parts",
            "parts a second",
            "memory, MB",
            "memory, % an hour",
            "open files, first",
            "open files, last",
            "open files, most",
        ),
        lambda row: "soak, min" in row,
        order=(),
        heads=(("soak, min", "minutes"),),
    ),
    "memory": Listing(
        "memory",
        ("method", "options", "images", "peak MB", "libraries alone MB", "bank", "fit, s", "trained on"),
        order=("method", "images"),
    ),
}
BY_SET = ("set", "options")
# The tables of a method's own page.
OWN = {
    "Good images alone": Listing("unsupervised", ("set", *ANOMALY), order=BY_SET),
    "Compared with a template": Listing("template", ("set", "options", "seed", *MARKED, *COST), order=BY_SET),
    "Classes": Listing("classification", ("set", *KINDS), order=BY_SET, heads=ACCURACY),
    "Boxes": Listing("detection", ("set", *BOXES), order=BY_SET),
    "Masks": Listing("segmentation", ("set", *MASKS), order=BY_SET),
    "Instances": Listing("instances", WHOLE_DEFECTS, order=BY_SET),
    "Classes without training images": FEW_DEFECTS["episodes"],
    "Synthetic defects": FEW_DEFECTS["synthetic"],
    "Good images with some defects": FEW_DEFECTS["mixed"],
    "A handful of good images": FEW_DEFECTS["bank"],
    "From one surface to another": FEW_DEFECTS["transfer"],
}


def method_tables(name: str) -> list[str]:
    """The tables of one method's metrics, over all sets."""
    tables = {title: listed(listing, lambda row: row["method"] == name, ("method",)) for title, listing in OWN.items()}
    return [f"{title}:\n\n{table}" for title, table in tables.items() if table != NOT_MEASURED]


def rows_named(name: str) -> list[Row]:
    """The rows of the files of this name, and of this name with -anything after it."""
    folder = HERE / "rows"
    paths = sorted({*folder.glob(f"{name}.jsonl"), *folder.glob(f"{name}-*.jsonl")})
    return [row for path in paths for row in read_rows(path)]


def listed(listing: Listing, also: Callable[[Row], bool] = lambda row: True, leave: tuple[str, ...] = ()) -> str:
    """A table of measured rows without some columns, or a line that says there are none."""
    rows = [row for row in rows_named(listing.rows) if listing.where(row) and also(row)]
    if not rows:
        return NOT_MEASURED
    kept = sorted(merged(rows, _digits), key=lambda row: [_rank(row.get(key)) for key in listing.order])
    kept = [_completed(row) for row in kept]
    has_escapes = any(row.get(column) for row in kept for column in ESCAPES)
    if has_escapes:
        kept = [dict.fromkeys(ESCAPES, "not measured") | row if row.get("image AUROC") else row for row in kept]
    heads = dict(listing.heads)
    columns = [
        column
        for column in dict.fromkeys(listing.columns or (key for row in kept for key in row))
        if column not in leave and any(row.get(column) not in ("", None) for row in kept)
    ]
    cells = [{heads.get(column, column): _cell(column, row.get(column)) for column in columns} for row in kept]
    table = markdown(cells, [heads.get(column, column) for column in columns])
    return table if has_escapes or "image AUROC" not in columns else f"{table}\n\n{NO_ESCAPES}"


def evidence_sentence(evidence: Evidence, methods: tuple[str, ...]) -> str:
    """The metrics of a rule's rows, for each metric by set and conditions; of `methods`, where the rule names some."""
    rows = [row for row in rows_named(evidence.rows) if evidence.selects(row)]
    rows = [row | {"seed": f"{row.get('seed')} {row.get('device', '')}", "device": ""} for row in rows]
    if methods and "method" not in evidence.where:
        rows = [row for row in rows if row["method"] in methods]
    sentences = []
    for metric in evidence.metrics:
        values: dict[str, list[str]] = {}
        for row in merged(rows, _digits):
            if row.get(metric) not in ("", None):
                keys = (str(row.get(k) or "") for k in CONDITIONS if len(evidence.where.get(k, ())) != 1)
                value = _cell(metric, row[metric])
                values.setdefault(" ".join(filter(None, keys)), []).append(f"{row['method']} {value}")
        by_condition = "; ".join(f"{key}: {', '.join(own)}" if key else ", ".join(own) for key, own in values.items())
        sentences.append(f"{metric}: {by_condition}.")
    return " ".join(sentences)


def linked(name: str, folder: str) -> str:
    """A method's name as a link to its page."""
    return f"[{name}]({folder}{name}.md)" if name in METHODS else name


def published() -> dict[tuple[str, str], str]:
    """Published metrics by method and set."""
    with (HERE / "published.csv").open() as stream:
        return {(row["method"], row["set"]): row["published"] for row in csv.DictReader(stream)}


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers first, by size; methods as in the catalogue; texts by the alphabet."""
    if isinstance(value, int | float):
        return 0, value, ""
    names = list(METHODS)
    return (1, names.index(value), "") if value in names else (2, 0, str(value or ""))


def _digits(column: str) -> int:
    return DIGITS.get(column, 3)


def _completed(row: Row) -> Row:
    """With the device of the training, and with the published metric."""
    threads = str(row.get("threads", ""))
    on = f"{threads} thread{'' if threads == '1' else 's'}" if threads else ""
    known = published().get((str(row.get("method")), str(row.get("set"))), "")
    return {**row, "trained on": row.get("device") or on, "published": known}


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_digits(column)}f}"
    return linked(value, "methods/") if column == "method" else str(value)
