"""Compare methods on one split: train, ship and evaluate each of them, and choose one, with the reasons.

The page always says which images the choice is based on: with folds, cross-validation over the training and validation
images; else the validation images if they can rank methods; else the test images.

OUT/comparison.yaml   the setup, so that the same command continues where it was interrupted
OUT/split.csv         the images with their splits, the same for all methods
OUT/runs/METHOD       a run folder for each method, as from `blemish train`
OUT/folds/K           the split of a fold, and its runs
OUT/choice.blemish    the chosen method's bundle
OUT/comparison.json, comparison.html
"""

import json
import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blemish.dataset.labels import Unlabelled
from blemish.dataset.read import read_dataset
from blemish.errors import BlemishError, DataError, OptionError, unknown
from blemish.evaluation.comparison import METRIC_NAMES, METRICS, rank_methods, select_metric
from blemish.files import write_atomic
from blemish.imaging.roi import Roi
from blemish.inspection.bundle import find_bundle
from blemish.inspection.manifest import Tiling
from blemish.methods.catalogue import method_class
from blemish.report.comparison_page import render_comparison
from blemish.report.formatting import duration
from blemish.report.html import check_installed
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.advice.plan import TOP, Advice, advise, advised_options, advised_settings
from blemish.training.comparison.budget import Budget
from blemish.training.comparison.on_ray import RayTasks, RayTraining, train_on_ray
from blemish.training.comparison.runs import EvaluatedRun, OtherRunError, evaluate_run, is_finished, train_or_resume
from blemish.training.comparison.setup import (
    ComparisonSetup,
    LeftOut,
    check_folder,
    is_trainable,
    make_setup,
    write_setup,
)
from blemish.training.comparison.summary import ComparisonResult, summarize, table_metrics
from blemish.training.learn.options import check_options
from blemish.training.learn.supervision import learns_from_good_only
from blemish.translation import ENGLISH, translator

log = logging.getLogger(__name__)
OptionsByMethod = dict[str, dict[str, Any]]  # checked options of each method that is trained


def compare(
    data: str | Path,
    *,
    out: str | Path,
    methods: Sequence[str] | None = None,
    options: dict[str, Any] | None = None,
    budget: float | None = None,
    folds: int = 0,
    by: str | None = None,
    seed: int = 0,
    format: str = "auto",
    root: str | None = None,
    good: Iterable[str] = (),
    unlabelled: Unlabelled = "unknown",
    trainer: dict[str, Any] | None = None,
    progress: bool = True,
    tiling: Tiling | dict[str, Any] | None = None,
    roi: Roi | None = None,
    synthetic: DefectSpec | dict[str, Any] | None = None,
    language: str = ENGLISH,
    tasks: RayTasks | None = None,
) -> dict[str, Any]:
    """Compare methods on a dataset and choose one; returns the content of `comparison.json`.

    Without `methods`, these are the advisor's first TOP, or with a `budget` (seconds) all of its ranking that fit.
    `options` are `METHOD.KEY` or, for every method that has it, `KEY`. `tiling` and `roi` apply to all methods,
    `synthetic` to those trained on defects. `by` is a metric of METRICS, `folds` 0 or 2 and more. With `tasks`, all
    trainings run on a Ray cluster, at the same time; all its machines must see the data and `out`.

    Raises DataError where no method can be trained or ranked, OptionError for a wrong option or a folder with other
    content, MissingExtraError without the libraries of the report.
    """
    check_installed()
    translator(language)  # an unknown language is refused before any work
    if by is not None and by not in METRICS:
        raise OptionError(unknown("metric", by, METRICS))
    if folds == 1 or folds < 0:
        raise OptionError("cross-validation takes 2 folds or more; leave --folds out to do without")
    if tasks is not None and budget is not None:
        raise OptionError("a budget is for methods trained one after another; leave it out with Ray")
    if methods is not None and not methods:
        raise OptionError("name the methods to compare, separated by commas, or say auto")
    for name in methods or ():
        method_class(name)
    folder = Path(out)
    check_folder(folder)
    dataset = read_dataset(data, format, root, good, unlabelled)
    log.info("analysing the dataset")
    advice = advise(dataset, seed=seed)
    names = _order_methods(methods, advice, everything=budget is not None)
    if synthetic is not None and all(learns_from_good_only(method_class(name)) for name in names):
        raise OptionError(
            f"synthetic defects are for methods trained on defects, but {', '.join(names)} is trained on good "
            "images alone; name one such as unet with --methods, or leave --synthetic out"
        )
    given = {"trainer": trainer, "tiling": tiling, "roi": roi, "synthetic": synthetic}
    settings = {**advised_settings(advice), "seed": seed, **{k: own for k, own in given.items() if own is not None}}
    by_method = options_by_method(options or {}, names)
    candidates = {name: _checked(advice, name, by_method[name]) for name in names}
    setup = make_setup(folder, dataset, names, settings, folds, seed, progress)
    left_out: LeftOut = []
    candidates = {name: own for name, own in candidates.items() if is_trainable(name, setup, left_out)}
    if not candidates:
        raise DataError(f"none of the methods can be trained on this data: {_listed(left_out)}")
    write_setup(setup, data, seed, folds)
    if tasks is not None:
        candidates = _train_at_once(setup, candidates, tasks, left_out)
    result = _rank(_run_all(setup, candidates, advice, budget, left_out), by, left_out)
    summary = summarize(setup, advice, candidates, result, left_out, seed)
    _finish(setup, summary, candidates, language, tasks)
    return summary


def options_by_method(options: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of each method from `METHOD.KEY`, and from `KEY` for all that have it; the former take precedence."""
    by_method: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in sorted(options.items(), key=lambda option: "." in option[0]):
        method, dot, option = key.rpartition(".")
        if dot and method not in by_method:
            raise OptionError(f"--set {key}: '{method}' is none of the methods compared: {', '.join(names)}")
        targets = [method] if dot else [name for name in names if key in method_class(name).Options.model_fields]
        if not targets:
            raise OptionError(f"none of the methods {', '.join(names)} has an option '{key}'")
        for name in targets:
            by_method[name][option] = value
    return by_method


def _order_methods(methods: Sequence[str] | None, advice: Advice, everything: bool) -> list[str]:
    """The methods in the advisor's order; named ones that it does not rank come last."""
    ranked = [own.method for own in advice.ranking]
    if methods is None:
        return ranked if everything else ranked[:TOP]
    named = list(dict.fromkeys(methods))
    return [name for name in ranked if name in named] + [name for name in named if name not in ranked]


def _checked(advice: Advice, name: str, given: dict[str, Any]) -> dict[str, Any]:
    checked = check_options(method_class(name).Options, advised_options(advice, name, given), name)
    return dict(checked.model_dump(mode="json"))


def _train(setup: ComparisonSetup, method: str, options: dict[str, Any], listed: Path, run: Path) -> None:
    settings = {"root": str(setup.dataset.root), "format": "csv", **setup.select_settings(method)}
    train_or_resume(listed, run, method, options, setup.progress, **settings)


def _make_job(setup: ComparisonSetup, method: str, options: dict[str, Any], listed: Path, run: Path) -> RayTraining:
    settings = {"root": str(Path(setup.dataset.root).resolve()), "format": "csv", **setup.select_settings(method)}
    return RayTraining(method, listed.resolve(), run.resolve(), options, settings)


def _train_at_once(
    setup: ComparisonSetup, candidates: OptionsByMethod, tasks: RayTasks, left_out: LeftOut
) -> OptionsByMethod:
    """Train all methods on all splits as tasks; the methods that are trained."""
    jobs = [
        _make_job(setup, method, options, listed, run)
        for method, options in candidates.items()
        for listed, run in setup.list_runs(method)
        if not is_finished(run)
    ]
    log.info(f"training {len(candidates)} methods, {len(jobs)} trainings to do, on {tasks.address}")
    errors = train_on_ray(jobs, tasks) if jobs else {}
    for error in errors.values():
        if isinstance(error, OtherRunError):
            raise error
    failed = {job.method: str(errors[job.run]) for job in reversed(jobs) if job.run in errors}
    left_out.extend(failed.items())
    trained = {method: options for method, options in candidates.items() if method not in failed}
    if not trained:
        raise DataError(f"no method could be trained: {_listed(left_out)}")
    return trained


def _run_all(
    setup: ComparisonSetup, candidates: OptionsByMethod, advice: Advice, seconds: float | None, left_out: LeftOut
) -> dict[str, list[EvaluatedRun]]:
    """Train and evaluate all methods that fit into the budget, in order."""
    budget = None
    if seconds is not None:
        budget = Budget(seconds, setup.dataset, advice, len(setup.folds), setup.settings.get("tiling"))
    runs: dict[str, list[EvaluatedRun]] = {}
    for number, (method, options) in enumerate(candidates.items(), 1):
        trained = all(is_finished(run) for _, run in setup.list_runs(method))
        if budget is not None and not trained and (reason := budget.reason_to_skip(method, options)):
            left_out.append((method, reason))
            log.info(f"{method}: left out, {reason}")
            continue
        log.info(f"{method} ({number} of {len(candidates)})")
        begin = time.perf_counter()
        try:
            runs[method] = _train_and_evaluate(setup, method, options)
        except OtherRunError:
            raise
        except BlemishError as error:
            left_out.append((method, str(error)))
            continue
        if budget is not None and not trained:
            budget.taken[method] = time.perf_counter() - begin
    if not runs and budget is not None and budget.skipped:
        raise OptionError(
            f"no method fits into {duration(budget.seconds)}: {_listed(left_out)}; give a larger --budget"
        )
    if not runs:
        raise DataError(f"no method could be trained: {_listed(left_out)}")
    return runs


def _train_and_evaluate(setup: ComparisonSetup, method: str, options: dict[str, Any]) -> list[EvaluatedRun]:
    """Train a method on each split, unless it is trained, and evaluate its bundles on the images of the choice."""
    name = {"folds": "fold", "validation": "val", "test": "test"}[setup.basis]
    subsets = [fold.split("test") for fold in setup.folds] or [setup.dataset.split(name)]
    runs = []
    for k, ((listed, run), subset) in enumerate(zip(setup.list_runs(method), subsets, strict=True)):
        _train(setup, method, options, listed, run)
        log.info(f"{method}: evaluating {len(subset)} images")
        runs.append(evaluate_run(run, subset, name, k, speed=k == 0))
    return runs


def _rank(runs: dict[str, list[EvaluatedRun]], by: str | None, left_out: LeftOut) -> ComparisonResult:
    """Select the metric and rank the methods by it."""
    predictions = {name: [image for run in own for image in run.images] for name, own in runs.items()}
    metric = select_metric(predictions, by)
    ranking = rank_methods(predictions, metric)
    for name in set(predictions) - {ranked.method for ranked in ranking}:
        left_out.append((name, f"it has no output for the metric {METRIC_NAMES[metric]}"))
    return ComparisonResult(metric, ranking, predictions, runs)


def _finish(
    setup: ComparisonSetup,
    summary: dict[str, Any],
    candidates: OptionsByMethod,
    language: str,
    tasks: RayTasks | None = None,
) -> None:
    """Ship the chosen method's bundle, evaluate on the test images if unused so far, write JSON and page."""
    chosen = summary["choice"]["method"]
    run = setup.out / "runs" / chosen
    if setup.folds:
        log.info(f"{chosen}: training on all training images")
        listed = setup.out / "split.csv"
        if tasks is not None and not is_finished(run):
            for error in train_on_ray([_make_job(setup, chosen, candidates[chosen], listed, run)], tasks).values():
                raise error
        _train(setup, chosen, candidates[chosen], listed, run)
    bundle = setup.out / "choice.blemish"
    shutil.copyfile(find_bundle(run), bundle)
    summary["choice"]["bundle"] = str(bundle)
    test = setup.dataset.split("test")
    if setup.basis != "test" and any(s.defective is not None for s in test.samples):
        names = [chosen] if setup.folds else [row["method"] for row in summary["ranking"]]
        log.info(f"evaluating {', '.join(names)} on the test images, which were not used for the choice")
        for name in names:
            metrics = evaluate_run(setup.out / "runs" / name, test, "test", speed=False).metrics
            summary["test"].append(
                {"method": name, "images": metrics["data"]["images"], "metrics": table_metrics(metrics)}
            )
    write_atomic(setup.out / "comparison.json", json.dumps(summary, indent=1, ensure_ascii=False))
    write_atomic(setup.out / "comparison.html", render_comparison(summary, language))


def _listed(left_out: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in left_out)
