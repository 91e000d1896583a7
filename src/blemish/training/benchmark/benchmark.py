"""Run methods on whole sets, with several seeds: resumable, every row kept, and a table made of all of them.

OUT/rows.jsonl          one line a measurement, see `rows`
OUT/images/SET/*.json   the prediction for each test image, so that any metric of images can be computed again
OUT/sets/SET.csv        the images with their splits, and SET.sha256, a hash of all that is in them
OUT/runs/SET/*          a run folder for each training, as from `blemish train`
OUT/table.csv, table.tex, benchmark.html
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blemish.dataset.labels import Unlabelled
from blemish.dataset.sample import Dataset
from blemish.dataset.write import dataset_sha256, write_csv
from blemish.errors import BlemishError, OptionError
from blemish.files import write_atomic
from blemish.methods.catalogue import method_class
from blemish.report.benchmark_page import render_benchmark
from blemish.report.formatting import duration
from blemish.report.html import check_installed
from blemish.training.benchmark.job import BenchmarkJob, file_name, run_job
from blemish.training.benchmark.rows import BenchmarkRow, read_rows, write_rows
from blemish.training.benchmark.sets import read_sets
from blemish.training.benchmark.summary import (
    BenchmarkSummary,
    csv_table,
    latex_tables,
    page_content,
    summarize_rows,
)
from blemish.training.comparison.compare import options_by_method
from blemish.training.learn.options import check_options
from blemish.training.learn.presets import Preset, preset_options

log = logging.getLogger(__name__)
Outcome = tuple[BenchmarkJob, list[BenchmarkRow] | str]  # rows, or why there are none
Execute = Callable[[Iterable[BenchmarkJob]], Iterator[Outcome]]
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class BenchmarkResult:
    """The rows of the folder, and the jobs without: those that failed with the reason, those not begun."""

    summary: BenchmarkSummary
    failed: list[tuple[BenchmarkJob, str]]
    not_begun: list[BenchmarkJob]


def benchmark(
    root: str | Path,
    *,
    out: str | Path,
    methods: Sequence[str],
    seeds: Sequence[int] = (0,),
    preset: Preset = "default",
    options: dict[str, Any] | None = None,
    budget: float | None = None,
    unified: bool = False,
    format: str = "auto",
    data_root: str | None = None,
    good: Iterable[str] = (),
    unlabelled: Unlabelled = "unknown",
    settings: Mapping[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    execute: Execute | None = None,
) -> BenchmarkResult:
    """Train and evaluate every method on every set with every seed, except for what the folder has rows of.

    `root` is a set or a folder of categories, see `read_sets`. `options` are `METHOD.KEY` or, for every method that has
    it, `KEY`; `settings` are those of `train`, and `trainer` is what Lightning gets. With a `budget` (seconds) no
    training begins after it. `execute` runs the jobs, by default in turn and in this process; it may run them
    elsewhere, in any order, and takes the next one when it can begin with it.

    Raises DataError for data that cannot be read, OptionError for a wrong option or a folder with rows of another
    protocol or of other images, MissingExtraError without the libraries of the report.
    """
    check_installed()
    folder = Path(out).resolve()
    if not methods or not seeds:
        raise OptionError("name at least one method and one seed")
    names, seeds = list(dict.fromkeys(methods)), list(dict.fromkeys(seeds))
    kinds = [method_class(name) for name in names]
    given = options_by_method(options or {}, names)
    for name, kind in zip(names, kinds, strict=True):
        check_options(kind.Options, preset_options(name, preset, 1) | given[name], name)
    rows = read_rows(folder / ROWS)
    sets = read_sets(root, kinds, unified, format, data_root, good, unlabelled)
    jobs = []
    for own in sets:
        sha256 = {name: dataset_sha256(test) for name, test in own.test_images().items()}
        _check_same_images(folder, sha256, rows)
        listed = folder / "sets" / f"{file_name(own.name)}.csv"
        _write_set(own.dataset, listed)
        fixed = BenchmarkJob(
            str(folder), own.name, str(listed), str(own.dataset.root.resolve()), own.products, sha256, "", preset, {},
            0, dict(settings or {}), trainer,
        )  # fmt: skip
        jobs += [replace(fixed, method=name, options=given[name], seed=seed) for name in names for seed in seeds]
    jobs.sort(key=lambda job: seeds.index(job.seed))  # all by one seed before the next
    done = {row.key for row in rows}
    waiting = [job for job in jobs if not set(job.keys()) <= done]
    log.info(f"{len(jobs)} trainings, {len(jobs) - len(waiting)} of them measured already")
    write_rows(folder / ROWS, rows)  # without a line that was cut off
    failed, not_begun = _run_all(folder, waiting, budget, execute or run_in_turn)
    summary = summarize_rows(read_rows(folder / ROWS))
    if summary.rows:
        write_atomic(folder / "table.csv", csv_table(summary))
        write_atomic(folder / "table.tex", latex_tables(summary))
        write_atomic(folder / "benchmark.html", render_benchmark(page_content(summary, folder)))
    return BenchmarkResult(summary, failed, not_begun)


def run_in_turn(jobs: Iterable[BenchmarkJob]) -> Iterator[Outcome]:
    """The jobs one after another in this process; a job whose training is refused does not stop the others."""
    for job in jobs:
        log.info(f"{job.set}: {job.name}")
        yield job, run_or_say(job)


def run_or_say(job: BenchmarkJob) -> list[BenchmarkRow] | str:
    """The rows of a job, or the error in one line."""
    try:
        return run_job(job)
    except BlemishError as error:
        return str(error)


def _run_all(
    folder: Path, jobs: Sequence[BenchmarkJob], budget: float | None, execute: Execute
) -> tuple[list[tuple[BenchmarkJob, str]], list[BenchmarkJob]]:
    """Append the rows of each job as they come; the failed jobs, and those left when the budget was spent."""
    end = None if budget is None else time.monotonic() + budget
    failed: list[tuple[BenchmarkJob, str]] = []
    not_begun = list(jobs)

    def waiting() -> Iterator[BenchmarkJob]:
        while not_begun and (end is None or time.monotonic() < end):
            yield not_begun.pop(0)

    for job, rows in execute(waiting()):
        if isinstance(rows, str):
            log.warning(f"{job.set}: {job.name}: {rows}")
            failed.append((job, rows))
            continue
        known = {row.key for row in rows}
        write_rows(folder / ROWS, [*(row for row in read_rows(folder / ROWS) if row.key not in known), *rows])
    if not_begun and budget is not None:
        log.info(f"the budget of {duration(budget)} is spent; {len(not_begun)} trainings are left")
    return failed, not_begun


def _check_same_images(folder: Path, sha256: Mapping[str, str], rows: Sequence[BenchmarkRow]) -> None:
    """OptionError where rows are of a set of this name with other test images."""
    for name, own in sha256.items():
        if any(row.set == name and row.test_sha256 != own for row in rows):
            raise OptionError(
                f"'{folder}' holds rows of {name} with other test images, so that they cannot be compared; choose "
                "another folder with --out"
            )


def _write_set(dataset: Dataset, listed: Path) -> None:
    """Write the list of a set; OptionError where the folder holds trainings on other images or annotations of it."""
    hashed, own = listed.with_suffix(".sha256"), dataset_sha256(dataset)
    if hashed.is_file() and hashed.read_text(encoding="utf-8").strip() != own:
        raise OptionError(
            f"'{listed.parent.parent}' holds trainings of {listed.stem} on other images, splits or annotations, so "
            "that they cannot be compared; choose another folder with --out"
        )
    listed.parent.mkdir(parents=True, exist_ok=True)
    write_csv(dataset, listed)
    write_atomic(hashed, own)
