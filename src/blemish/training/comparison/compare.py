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
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.dataset.read import read_dataset
from blemish.dataset.write import write_whole
from blemish.errors import BlemishError, DataError, OptionError
from blemish.evaluation.comparison import METRICS, METRIC_NAMES, rank_methods, select_metric
from blemish.inspection.bundle import find_bundle
from blemish.inspection.manifest import Roi, Tiling
from blemish.methods.catalogue import method_class
from blemish.report.comparison import render_comparison
from blemish.report.page import check_installed, duration
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.advice.plan import TOP, Advice, advise, options_for, run_settings
from blemish.training.comparison.budget import Budget
from blemish.training.comparison.runs import Judged, OtherRunError, finished, judge, learn
from blemish.training.comparison.setup import (
    Contest,
    LeftOut,
    basis_of,
    can_learn,
    check_folder,
    folds_of,
    places_of,
    settings_for,
    split_for,
    start,
)
from blemish.training.comparison.summary import Outcome, facts_of, plain_figures
from blemish.training.learn.options import check_options
from blemish.training.learn.supervision import good_alone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A method that takes part, with its checked options."""

    method: str
    options: dict[str, Any]


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
    progress: bool = True,
    tiling: Tiling | dict[str, Any] | None = None,
    roi: Roi | None = None,
    synthetic: DefectSpec | dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compare methods on a dataset; returns what `comparison.json` holds.

    Without `methods`, the advisor's first TOP, or with a `budget` (seconds) all of its ranking that fit. `options` are
    `METHOD.KEY` or, for every method that has it, `KEY`. `tiling` and `roi` are for all of them, `synthetic` for
    those that learn from defects. Raises DataError or OptionError for what a user can mend.
    """
    check_installed()
    if by is not None and by not in METRICS:
        raise OptionError(f"there is no figure '{by}' to compare by; take one of {', '.join(FIGURES)}")
    if folds == 1 or folds < 0:
        raise OptionError("cross-validation takes 2 folds or more; leave --folds out to do without")
    if methods is not None and not methods:
        raise OptionError("name the methods to compare, separated by commas, or say auto")
    for name in methods or ():
        method_class(name)
    place = Path(out)
    check_folder(place)
    dataset = read_dataset(data, format, root)
    log.info("looking at the data")
    advice = advise(dataset, seed=seed)
    names = _in_order(methods, advice, budget is not None)
    if synthetic is not None and all(good_alone(method_class(name)) for name in names):
        raise OptionError(
            f"synthetic defects are for methods that learn from defects, and {', '.join(names)} learns from good "
            "images alone; name one such as unet with --methods, or leave --synthetic out"
        )
    given = {"trainer": trainer, "tiling": tiling, "roi": roi, "synthetic": synthetic}
    shared = {**run_settings(advice), "seed": seed, **{key: own for key, own in given.items() if own is not None}}
    own = own_options(options or {}, names)
    entries = [Entry(name, _checked(advice, name, own[name])) for name in names]
    split = split_for(dataset, names, folds, seed)
    basis = basis_of(split, folds)
    left_out: LeftOut = []
    entries = [e for e in entries if can_learn(e.method, split, shared, left_out)]
    if not entries:
        raise DataError(f"none of the methods can learn from this data: {_listed(left_out)}")
    contest = Contest(place, split, basis, folds_of(split, folds, seed), shared, progress)
    start(contest, data, seed, folds)
    found = _ranked(_run_all(contest, entries, advice, budget, left_out), by, left_out)
    chosen = {entry.method: entry.options for entry in entries}
    facts = facts_of(contest, advice, chosen, found, left_out, seed)
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


def _learn(contest: Contest, entry: Entry, listed: Path, run: Path) -> None:
    learn(
        listed, run, entry.method, entry.options, contest.progress,
        root=str(contest.dataset.root), format="csv", **settings_for(entry.method, contest.settings),
    )  # fmt: skip


def _run_all(
    contest: Contest,
    entries: Sequence[Entry],
    advice: Advice,
    seconds: float | None,
    left_out: LeftOut,
) -> dict[str, list[Judged]]:
    """Train and judge all methods that fit into the budget, in order; for each what its bundles made of the images."""
    purse = (
        None
        if seconds is None
        else Budget(seconds, contest.dataset, advice, len(contest.folds), contest.settings.get("tiling"))
    )
    found: dict[str, list[Judged]] = {}
    for number, entry in enumerate(entries):
        known = all(finished(run) for _, run in places_of(contest, entry.method))
        if purse is not None and not known:
            reason = purse.refuses(entry.method, entry.options)
            if reason is not None:
                left_out.append((entry.method, reason))
                log.info(f"{entry.method}: left out, {reason}")
                continue
        log.info(f"{entry.method} ({number + 1} of {len(entries)})")
        begin = time.perf_counter()
        try:
            found[entry.method] = _try(contest, entry)
        except OtherRunError:
            raise
        except BlemishError as error:
            left_out.append((entry.method, str(error)))
            continue
        if purse is not None and not known:
            purse.spent(entry.method, time.perf_counter() - begin)
    if not found:
        if seconds is not None and purse is not None and purse.refused:
            raise OptionError(f"no method fits into {duration(seconds)}: {_listed(left_out)}; give a larger --budget")
        raise DataError(f"no method could be trained: {_listed(left_out)}")
    return found


def _try(contest: Contest, entry: Entry) -> list[Judged]:
    """Train a method, or find it trained, and judge its bundles on the images that the choice rests on."""
    name = {"folds": "fold", "validation": "val", "test": "test"}[contest.basis]
    parts = [part.split("test") for part in contest.folds] or [contest.dataset.split(name)]
    judged = []
    for k, ((listed, run), part) in enumerate(zip(places_of(contest, entry.method), parts, strict=True)):
        _learn(contest, entry, listed, run)
        log.info(f"{entry.method}: judging {len(part)} images")
        judged.append(judge(run, part, name, k, speed=k == 0))
    return judged


def _ranked(evaluations: dict[str, list[Judged]], by: str | None, left_out: LeftOut) -> Outcome:
    """The figure to compare by, and how the methods stand by it."""
    judgements = {name: [i for one in own for i in one.images] for name, own in evaluations.items()}
    figure = select_metric(judgements, by)
    standings = rank_methods(judgements, figure)
    for name in set(judgements) - {s.method for s in standings}:
        left_out.append((name, f"it answers nothing that {NAMES[figure]} could be told of"))
    return Outcome(figure, standings, judgements, evaluations)


def _finish(contest: Contest, facts: dict[str, Any], entries: Sequence[Entry]) -> None:
    """The chosen method's bundle; what the test images say, where they had no say; the files."""
    chosen = facts["choice"]["method"]
    run = contest.out / "runs" / chosen
    if contest.folds:
        log.info(f"{chosen}: learning from all training images")
        _learn(contest, next(e for e in entries if e.method == chosen), contest.out / "split.csv", run)
    bundle = contest.out / "choice.blemish"
    shutil.copyfile(find_bundle(run), bundle)
    facts["choice"]["bundle"] = str(bundle)
    test = contest.dataset.split("test")
    if contest.basis != "test" and any(s.defective is not None for s in test.samples):
        judged = [chosen] if contest.folds else [row["method"] for row in facts["standings"]]
        log.info(f"judging {', '.join(judged)} on the test images, which had no say")
        for name in judged:
            result = judge(contest.out / "runs" / name, test, "test", speed=False).figures
            facts["test"].append({"method": name, "images": result["data"]["images"], "figures": plain_figures(result)})
    write_whole(contest.out / "comparison.json", json.dumps(facts, indent=1, ensure_ascii=False))
    write_whole(contest.out / "comparison.html", render_comparison(facts))


def _listed(left_out: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in left_out)
