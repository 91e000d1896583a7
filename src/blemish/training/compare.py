"""Several methods on one split: each trained, shipped and judged, and one of them chosen with its reason.

What the choice rests on is never hidden: cross-validation over the training and validation images where folds are asked
for; else the validation images, where they can rank methods; else the test images, and the page says so.

OUT/comparison.yaml   what was asked for, so that the same command goes on where it was interrupted
OUT/split.csv         the images with their splits, the same for all methods
OUT/runs/METHOD       a run folder each, as of `blemish train`
OUT/folds/K           the split of a fold, and its runs
OUT/choice.blemish    the chosen method's bundle
OUT/comparison.json, comparison.html
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

import blemish
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset
from blemish.dataset.split import ensure_splits, fold_numbers
from blemish.dataset.write import sha256_of, write_csv
from blemish.errors import BlemishError, DataError, OptionError
from blemish.evaluation.comparison import FIGURES, NAMES, Cost, Standing, choose, figure_for, front, rank_methods
from blemish.evaluation.judgement import Judgement
from blemish.inspection.bundle import find_bundle
from blemish.methods.catalogue import method_class
from blemish.report.comparison import render_comparison
from blemish.report.page import check_installed, duration
from blemish.training.budget import Budget
from blemish.training.judge import Judged, OtherRunError, finished, judge, learn, training_seconds
from blemish.training.needs import check_truth, good_alone
from blemish.training.options import check_options
from blemish.training.plan import TOP, Advice, advise, options_for, run_settings
from blemish.training.ship import Progress
from blemish.training.windows import check_places, learns_windows

VAL_SHARE = TEST_SHARE = 0.2  # where the data has no splits
Basis = Literal["folds", "validation", "test"]


@dataclass(frozen=True)
class Entry:
    """A method that takes part, with its checked options."""

    method: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """What all methods share."""

    out: Path
    dataset: Dataset  # with splits
    basis: Basis
    folds: list[Dataset]  # each with its held images as the split "test"; empty without folds
    settings: dict[str, Any]  # of RunConfig
    tell: Progress
    progress: bool


@dataclass(frozen=True)
class Outcome:
    """What the choice rests on."""

    figure: str
    standings: list[Standing]
    judgements: dict[str, list[Judgement]]
    evaluations: dict[str, list[Judged]]  # one for each fold


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
    trainer: dict[str, Any] | None = None,
    tell: Progress = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Compare methods on a dataset; returns what `comparison.json` holds.

    Without `methods`, the advisor's first TOP, or with a `budget` (seconds) all of its ranking that fit. `options` are
    `METHOD.KEY` or, for every method that has it, `KEY`. Raises DataError or OptionError for what a user can mend.
    """
    check_installed()
    if by is not None and by not in FIGURES:
        raise OptionError(f"there is no figure '{by}' to compare by; take one of {', '.join(FIGURES)}")
    if folds == 1 or folds < 0:
        raise OptionError("cross-validation takes 2 folds or more; leave --folds out to do without")
    if methods is not None and not methods:
        raise OptionError("name the methods to compare, separated by commas, or say auto")
    for name in methods or ():
        method_class(name)
    place = Path(out)
    _check_folder(place)
    dataset = read_dataset(data, format, root)
    tell("looking at the data")
    advice = advise(dataset)
    names = _in_order(methods, advice, budget is not None)
    settings = {**run_settings(advice), "seed": seed, **({} if trainer is None else {"trainer": trainer})}
    own = own_options(options or {}, names)
    entries = [Entry(name, _checked(advice, name, own[name])) for name in names]
    split = _split(dataset, names, folds, seed)
    basis = _basis(split, folds)
    left_out: list[tuple[str, str]] = []
    entries = [e for e in entries if _can_learn(e.method, split, "tiling" in settings, left_out)]
    if not entries:
        raise DataError(f"none of the methods can learn from this data: {_listed(left_out)}")
    contest = Contest(place, split, basis, _folds(split, folds, seed), settings, tell, progress)
    _start(contest, data, seed, folds)
    runs = _run_all(contest, entries, advice, budget, left_out)
    found = _judged(contest, runs, by, left_out)
    facts = _facts(contest, advice, entries, runs, found, left_out, seed)
    _finish(contest, facts, entries)
    return facts


def own_options(options: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of each method from `METHOD.KEY`, and from `KEY` for all that have it; the nearer one wins."""
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in options.items():
        if "." not in key:
            having = [name for name in names if key in method_class(name).Options.model_fields]
            if not having:
                raise OptionError(f"none of the methods {', '.join(names)} has an option '{key}'")
            for name in having:
                found[name].setdefault(key, value)
    for key, value in options.items():
        name, dot, option = key.partition(".")
        if not dot:
            continue
        if name not in found:
            raise OptionError(f"--set {key}: '{name}' is none of the methods compared: {', '.join(names)}")
        found[name][option] = value
    return found


def _in_order(methods: Sequence[str] | None, advice: Advice, all_of_it: bool) -> list[str]:
    """The advisor's order; named methods that it does not rank come last, as they were named."""
    ranked = [r.method for r in advice.ranking]
    if methods is None:
        return ranked if all_of_it else ranked[:TOP]
    named = list(dict.fromkeys(methods))
    return [name for name in ranked if name in named] + [name for name in named if name not in ranked]


def _checked(advice: Advice, name: str, given: dict[str, Any]) -> dict[str, Any]:
    checked = check_options(method_class(name).Options, options_for(advice, name, given), name)
    return dict(checked.model_dump(mode="json"))


def _split(dataset: Dataset, names: Sequence[str], folds: int, seed: int) -> Dataset:
    need = folds > 0 or not all(good_alone(method_class(name)) for name in names)
    return ensure_splits(dataset, seed, VAL_SHARE, TEST_SHARE, need_defects_in_training=need)


def _can_learn(name: str, split: Dataset, tiled: bool, left_out: list[tuple[str, str]]) -> bool:
    kind = method_class(name)
    try:
        if learns_windows(kind, tiled):
            check_places(split)
        else:
            check_truth(split, kind)
    except DataError as error:
        left_out.append((name, str(error)))
        return False
    return True


def _ranks(part: Dataset, whole: Dataset) -> bool:
    """Whether a part can rank methods: good and defective images, or defects where no image of the data is good."""
    kinds = {s.defective for s in part.samples}
    return {True, False} <= kinds or (True in kinds and not any(s.defective is False for s in whole.samples))


def _basis(split: Dataset, folds: int) -> Basis:
    held, test = split.split("val"), split.split("test")
    if folds:
        if _ranks(split.where(lambda s: s.split != "test"), split):
            return "folds"
        raise DataError(
            "folds are made of the training and validation images, and those hold no defective ones to rank methods "
            "by; leave out --folds, or give some of the defects the split 'train'"
        )
    if _ranks(held, split):
        return "validation"
    if any(s.defective for s in test.samples):
        return "test"
    raise DataError(
        "neither the validation nor the test images hold known defects, so nothing tells which method is better; "
        "label some, or give some of the defects the split 'test'"
    )


def _folds(split: Dataset, folds: int, seed: int) -> list[Dataset]:
    """For each fold the training and validation images, the fold's own as "test" and a new validation set."""
    if not folds:
        return []
    pool = split.where(lambda s: s.split != "test")
    numbers = fold_numbers(pool, folds, seed)
    parts = []
    for k in range(folds):
        marked = [replace(s, split="test" if n == k else "train") for s, n in zip(pool.samples, numbers, strict=True)]
        parts.append(ensure_splits(pool.with_samples(marked), seed, VAL_SHARE))
    return parts


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OptionError(f"'{out}' is a file; name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "comparison.yaml").is_file():
        raise OptionError(f"'{out}' is not empty and holds no comparison; choose another folder with --out")


def _start(contest: Contest, data: str | Path, seed: int, folds: int) -> None:
    """Write what was asked for, or hold that the folder's comparison is of the same images."""
    path = contest.out / "comparison.yaml"
    asked = {"split": sha256_of(contest.dataset), "seed": seed, "folds": folds}
    if path.is_file():
        try:
            known = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            known = None
        if not isinstance(known, dict) or {key: known.get(key) for key in asked} != asked:
            raise OptionError(
                f"'{contest.out}' holds a comparison of other images, splits, folds or another seed; "
                "choose another folder with --out"
            )
        return
    contest.out.mkdir(parents=True, exist_ok=True)
    write_csv(contest.dataset, contest.out / "split.csv")
    for k, part in enumerate(contest.folds):
        (contest.out / "folds" / str(k)).mkdir(parents=True, exist_ok=True)
        write_csv(part, contest.out / "folds" / str(k) / "split.csv")
    name = str(Path(data).resolve()) if Path(data).exists() else str(data)
    text = yaml.safe_dump({"blemish": blemish.__version__, "data": name, **asked}, sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _places(contest: Contest, method: str) -> list[tuple[Path, Path]]:
    """The list of images and the run folder of each training that the choice rests on."""
    if contest.folds:
        folders = [contest.out / "folds" / str(k) for k in range(len(contest.folds))]
        return [(folder / "split.csv", folder / method) for folder in folders]
    return [(contest.out / "split.csv", contest.out / "runs" / method)]


def _learn(contest: Contest, entry: Entry, listed: Path, run: Path) -> Path:
    return learn(
        listed, run, entry.method, entry.options, contest.tell, contest.progress,
        root=str(contest.dataset.root), format="csv", **contest.settings,
    )  # fmt: skip


def _run_all(
    contest: Contest,
    entries: Sequence[Entry],
    advice: Advice,
    seconds: float | None,
    left_out: list[tuple[str, str]],
) -> dict[str, list[Path]]:
    """Train all methods that fit into the budget, in order; the run folders of each."""
    purse = None if seconds is None else Budget(seconds, contest.dataset, advice, len(contest.folds))
    runs: dict[str, list[Path]] = {}
    for number, entry in enumerate(entries):
        places = _places(contest, entry.method)
        known = all(finished(run) for _, run in places)
        if purse is not None and not known:
            reason = purse.refuses(entry.method, entry.options)
            if reason is not None:
                left_out.append((entry.method, reason))
                contest.tell(f"{entry.method}: left out, {reason}")
                continue
        contest.tell(f"{entry.method} ({number + 1} of {len(entries)})")
        start = time.perf_counter()
        try:
            runs[entry.method] = [_learn(contest, entry, listed, run) for listed, run in places]
        except OtherRunError:
            raise
        except BlemishError as error:
            left_out.append((entry.method, str(error)))
        if purse is not None and not known and entry.method in runs:
            purse.spent(entry.method, time.perf_counter() - start)
    if not runs:
        if seconds is not None and purse is not None and purse.refused:
            raise OptionError(f"no method fits into {duration(seconds)}: {_listed(left_out)}; give a larger --budget")
        raise DataError(f"no method could be trained: {_listed(left_out)}")
    return runs


def _judged(contest: Contest, runs: dict[str, list[Path]], by: str | None, left_out: list[tuple[str, str]]) -> Outcome:
    """Evaluate all bundles on the images that the choice rests on, and rank their methods."""
    evaluations: dict[str, list[Judged]] = {}
    for method, own in runs.items():
        contest.tell(f"{method}: judging on the {_words(contest.basis)}")
        try:
            if contest.folds:
                parts = [(part.split("test"), "fold", k) for k, part in enumerate(contest.folds)]
            else:
                split = {"validation": "val", "test": "test"}[contest.basis]
                parts = [(contest.dataset.split(split), split, 0)]
            evaluations[method] = [
                judge(run, part, name, k, speed=k == 0) for run, (part, name, k) in zip(own, parts, strict=True)
            ]
        except DataError as error:
            left_out.append((method, str(error)))
    judgements = {name: [i for one in own for i in one.images] for name, own in evaluations.items()}
    figure = figure_for(judgements, by)
    standings = rank_methods(judgements, figure)
    for name in judgements:
        if name not in {s.method for s in standings}:
            left_out.append((name, f"it answers nothing that {NAMES[figure]} could be told of"))
    return Outcome(figure, standings, judgements, evaluations)


def _facts(
    contest: Contest,
    advice: Advice,
    entries: Sequence[Entry],
    runs: dict[str, list[Path]],
    found: Outcome,
    left_out: list[tuple[str, str]],
    seed: int,
) -> dict[str, Any]:
    """All that the page shows, as plain data."""
    options = {entry.method: entry.options for entry in entries}
    rows = []
    for standing in found.standings:
        name = standing.method
        evaluations = found.evaluations[name]
        speed, sizes = evaluations[0].figures["speed"], [e.figures["bundle"]["size_mb"] for e in evaluations]
        seconds = [training_seconds(run) for run in runs[name]]
        rows.append(
            {
                "method": name,
                "title": method_class(name).info.title,
                "value": standing.value,
                "low": standing.low,
                "high": standing.high,
                "difference": None if standing.difference is None else asdict(standing.difference),
                "behind": standing.behind,
                "latency_ms": speed["latency_ms"]["median"],
                "images_per_second": speed["images_per_second"],
                "size_mb": max(sizes),
                "training_s": None if None in seconds else sum(s for s in seconds if s is not None),
                "figures": _figures(evaluations, found.judgements[name]),
                "options": options[name],
            }
        )
    costs = {row["method"]: Cost(row["latency_ms"], row["size_mb"]) for row in rows}
    choice = choose(found.standings, costs, found.figure)
    quality = {row["method"]: row["value"] for row in rows}
    images = next(iter(found.judgements.values()))
    return {
        "data": {
            "name": contest.dataset.root.name,
            "root": str(contest.dataset.root),
            "setting": advice.fingerprint.setting,
            "counts": {
                split: {
                    "images": len(contest.dataset.split(split)),
                    "defective": sum(s.defective is True for s in contest.dataset.split(split).samples),
                }
                for split in ("train", "val", "test")
            },
        },
        "figure": {"key": found.figure, "name": NAMES[found.figure]},
        "basis": {
            "kind": contest.basis,
            "folds": len(contest.folds),
            "images": len(images),
            "defective": sum(i.defective is True for i in images),
            "words": _basis_in_words(contest, len(images), len(rows)),
        },
        "standings": rows,
        "fronts": {key: front(quality, {row["method"]: row[key] for row in rows}) for key in ("latency_ms", "size_mb")},
        "choice": {"method": choice.method, "equals": list(choice.equals), "reason": choice.reason},
        "test": [],
        "left_out": [{"method": name, "reason": reason} for name, reason in left_out],
        "warnings": [rule.reason for rule in advice.rules if rule.warns],
        "seed": seed,
        "blemish": blemish.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _figures(evaluations: Sequence[Judged], images: Sequence[Judgement]) -> dict[str, float]:
    """Every figure to compare by that the method has, and, of a single bundle, those of pixels and verdicts."""
    found: dict[str, float] = {}
    for key, make in FIGURES.items():
        statistic = make(images)
        if statistic is not None:
            found[NAMES[key]] = statistic(np.arange(len(images), dtype=np.int64))
    if len(evaluations) == 1:
        found |= plain_figures(evaluations[0].figures)
    return found


def plain_figures(result: dict[str, Any]) -> dict[str, float]:
    """Of what `evaluate` gives: the figures of a table."""
    image, pixel = result.get("image", {}), result.get("pixel", {})
    values = {
        NAMES["auroc"]: image.get("auroc", {}).get("value"),
        NAMES["macro-f1"]: result.get("classes", {}).get("macro_f1"),
        NAMES["map50"]: result.get("boxes", {}).get("map50"),
        NAMES["iou"]: result.get("masks", {}).get("iou"),
        "pixel AUROC": pixel.get("auroc"),
        "AUPRO": pixel.get("aupro"),
        "escape rate": image.get("escape_rate", {}).get("value"),
        "overkill rate": image.get("overkill_rate", {}).get("value"),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _finish(contest: Contest, facts: dict[str, Any], entries: Sequence[Entry]) -> None:
    """The chosen method's bundle; what the test images say, where they had no say; the files."""
    chosen = facts["choice"]["method"]
    run = contest.out / "runs" / chosen
    if contest.folds:
        contest.tell(f"{chosen}: learning from all training images")
        _learn(contest, next(e for e in entries if e.method == chosen), contest.out / "split.csv", run)
    bundle = contest.out / "choice.blemish"
    shutil.copyfile(find_bundle(run), bundle)
    facts["choice"]["bundle"] = str(bundle)
    test = contest.dataset.split("test")
    if contest.basis != "test" and any(s.defective is not None for s in test.samples):
        judged = [chosen] if contest.folds else [row["method"] for row in facts["standings"]]
        contest.tell(f"judging {', '.join(judged)} on the test images, which had no say")
        for name in judged:
            result = judge(contest.out / "runs" / name, test, "test", speed=False).figures
            facts["test"].append({"method": name, "images": result["data"]["images"], "figures": plain_figures(result)})
    _write(contest.out / "comparison.json", json.dumps(facts, indent=1, ensure_ascii=False))
    _write(contest.out / "comparison.html", render_comparison(facts))


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _words(basis: Basis) -> str:
    return {"folds": "images of the folds", "validation": "validation images", "test": "test images"}[basis]


def _basis_in_words(contest: Contest, images: int, methods: int) -> str:
    if contest.basis == "folds":
        return (
            f"The choice rests on {len(contest.folds)}-fold cross-validation over the {images} training and validation "
            "images: each was judged by a bundle that had not learnt from it. The test images had no say; only the "
            "chosen method, trained anew on all training images, was judged on them."
        )
    if contest.basis == "validation":
        return (
            f"The choice rests on the {images} validation images. Thresholds, and for some methods the best epoch, "
            "were chosen on them too, so figures on them may flatter; --folds avoids that. The test images had no say."
        )
    flatters = " Choosing the best of several on them flatters its figure." if methods > 1 else ""
    return (
        f"The validation images cannot rank methods, for they lack defects, so the choice rests on the {images} test "
        f"images.{flatters} Judge the chosen bundle on images that nothing was chosen by, or put some of the defects "
        "into validation."
    )


def _listed(left_out: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in left_out)
