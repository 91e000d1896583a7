"""Shared by the benchmarks of trained methods: arguments, a timed training, costs, rows in a file."""

import argparse
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from blemish import train
from blemish.methods.catalogue import method_class
from blemish.training.learn.options import check_options, parse_settings
from blemish.training.learn.run import read_config

Row = dict[str, Any]
TIMES = "times.json"


@dataclass(frozen=True)
class Run:
    """A finished run, and the seconds of its training up to the export."""

    folder: Path
    fit: float
    fit_cpu: float


def parser(doc: str | None, methods: Iterable[str], sets: Iterable[str]) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", type=Path, required=True)
    found.add_argument("--methods", default=",".join(methods))
    found.add_argument("--sets", default=",".join(sets))
    found.add_argument("--seeds", default="0")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of the methods")
    found.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave runs there, METHOD-SET-SEED; take those there are"
    )
    found.add_argument("--json", type=Path, help="append each row to this file as it comes")
    return found


def cases(given: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Method, set and seed of each training that was asked for."""
    for method in given.methods.split(","):
        for name in given.sets.split(","):
            for seed in map(int, given.seeds.split(",")):
                yield method, name, seed


def parse_options(given: argparse.Namespace) -> Row:
    return parse_settings(given.set)


class FitTimer(logging.Handler):
    """Wall and CPU seconds from entering until the training logs that it exports the graph."""

    wall_s = cpu_s = math.nan

    def __enter__(self) -> "FitTimer":
        self.start, self.start_cpu = time.perf_counter(), time.process_time()
        logger = logging.getLogger("blemish.training")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("exporting"):
            self.wall_s, self.cpu_s = time.perf_counter() - self.start, time.process_time() - self.start_cpu

    def __exit__(self, *_: object) -> None:
        logging.getLogger("blemish.training").removeHandler(self)


def train_once(
    path: str | Path, method: str, name: str, seed: int, folder: Path, keep: Path | None, **settings: Any
) -> Run:
    """Train into `folder`, or into `keep`; an existing run there is reused with its times.

    Ends the program where that run was trained with other options or settings.
    """
    out = keep / f"{method}-{name}-{seed}" if keep is not None else folder / "run"
    times = out / TIMES
    if not times.exists():
        with FitTimer() as timer:
            train(path, out=out, method=method, seed=seed, progress=False, **settings)
        times.write_text(json.dumps({"fit": timer.wall_s, "fit_cpu": timer.cpu_s}))
    elif different := different_settings(out, method, settings):
        raise SystemExit(f"'{out}' was trained with other settings ({', '.join(different)}): remove it")
    return Run(out, **json.loads(times.read_text()))


def different_settings(run: Path, method: str, settings: Row) -> list[str]:
    """Names of the method's options, and of the settings given to `train`, that a run was not trained with."""
    kept = read_config(run)
    wanted = check_options(method_class(method).Options, settings.get("options") or {}, method).model_dump(mode="json")
    options = [name for name, value in wanted.items() if kept.options.get(name) != value]
    return options + [name for name, value in settings.items() if name != "options" and getattr(kept, name) != value]


def cost_columns(run: Run, result: Row) -> Row:
    """Times and size, of a run and what `evaluate` says of it."""
    return {
        "fit, s": round(run.fit, 1),
        "fit, CPU s": round(run.fit_cpu, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "ms an image": round(result["speed"]["latency_ms"]["median"], 1),
        "MB": round(result["bundle"]["size_mb"], 1),
    }


def anomaly_columns(result: Row) -> Row:
    """The ranking metrics of an evaluation: of images, and of pixels where masks are known."""
    pixel = result.get("pixel", {})
    return {
        **image_columns(result),
        "pixel AUROC": round(pixel["auroc"], 4) if pixel else "",
        "AUPRO": round(pixel["aupro"], 4) if pixel else "",
    }


def image_columns(result: Row) -> Row:
    """The ranking metrics of whole images."""
    area = result["image"]["auroc"]
    return {"image AUROC": round(area["value"], 4), "95 %": limits(area), **escape_columns(result)}


def escape_columns(result: Row) -> Row:
    """Escapes at 1 % and 5 % false alarms of the test images, with their exact intervals."""
    image = result["image"]
    return {f"escape at {rate} %": interval(image[f"escape_at_{rate}_percent"]) for rate in (1, 5)}


def options_text(options: Row) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def limits(estimate: dict[str, float]) -> str:
    """The 95 % interval."""
    return f"{estimate['low']:.3f}–{estimate['high']:.3f}"


def interval(estimate: dict[str, float]) -> str:
    """A value with its 95 % interval."""
    return f"{estimate['value']:.3f} ({limits(estimate)})"


def kept_rows(path: Path | None) -> list[Row]:
    """The rows of a file; none where there is no file."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


def append(path: Path | None, row: Row) -> None:
    if path is not None:
        with path.open("a") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def show(columns: Iterable[str], rows: Iterable[Row], path: Path | None, width: int = 170) -> None:
    """Rows as they come into the file, and all of them as a table on the screen."""
    columns = list(columns)
    table = Table(*columns)
    for row in rows:
        append(path, row)
        table.add_row(*(str(row[column]) for column in columns))
    Console(width=width).print(table)
