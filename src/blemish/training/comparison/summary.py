"""What a comparison found, as plain data: all that its page and its JSON show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

import blemish
from blemish.evaluation.comparison import METRICS, METRIC_NAMES, MethodCost, RankedMethod, choose_method, pareto_front
from blemish.evaluation.predictions import Prediction
from blemish.inspection.manifest import Tiling
from blemish.methods.catalogue import method_class
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.advice.plan import Advice
from blemish.training.comparison.runs import Judged, training_seconds
from blemish.training.comparison.setup import Contest, LeftOut, places_of


@dataclass(frozen=True)
class Outcome:
    """What the choice rests on."""

    figure: str
    standings: list[RankedMethod]
    judgements: dict[str, list[Prediction]]
    evaluations: dict[str, list[Judged]]  # one for each fold


def facts_of(
    contest: Contest,
    advice: Advice,
    options: Mapping[str, dict[str, Any]],
    found: Outcome,
    left_out: LeftOut,
    seed: int,
) -> dict[str, Any]:
    """All that the page shows, as plain data."""
    rows = []
    for standing in found.standings:
        name = standing.method
        evaluations = found.evaluations[name]
        speed, sizes = evaluations[0].figures["speed"], [e.figures["bundle"]["size_mb"] for e in evaluations]
        seconds = [training_seconds(run) for _, run in places_of(contest, name)]
        rows.append(
            {
                "method": name,
                "title": method_class(name).info.title,
                "value": standing.value,
                "low": standing.low,
                "high": standing.high,
                "difference": None if standing.difference is None else asdict(standing.difference),
                "behind": standing.significantly_worse,
                "latency_ms": speed["latency_ms"]["median"],
                "images_per_second": speed["images_per_second"],
                "size_mb": max(sizes),
                "training_s": None if None in seconds else sum(s for s in seconds if s is not None),
                "figures": _figures(evaluations, found.judgements[name]),
                "options": options[name],
            }
        )
    costs = {row["method"]: MethodCost(row["latency_ms"], row["size_mb"]) for row in rows}
    choice = choose_method(found.standings, costs, found.figure)
    quality = {row["method"]: row["value"] for row in rows}
    images = next(iter(found.judgements.values()))
    return {
        "data": {
            "name": contest.dataset.root.name,
            "root": str(contest.dataset.root),
            "setting": contest.dataset.setting,
            "counts": {
                split: {
                    "images": len(contest.dataset.split(split)),
                    "defective": sum(s.defective is True for s in contest.dataset.split(split).samples),
                }
                for split in ("train", "val", "test")
            },
        },
        "figure": {"key": found.figure, "name": METRIC_NAMES[found.figure]},
        "basis": {
            "kind": contest.basis,
            "folds": len(contest.folds),
            "images": len(images),
            "defective": sum(i.defective is True for i in images),
            "words": _basis_in_words(contest, len(images), len(rows)),
        },
        "view": _view_in_words(contest.settings),
        "standings": rows,
        "fronts": {
            key: pareto_front(quality, {row["method"]: row[key] for row in rows}) for key in ("latency_ms", "size_mb")
        },
        "choice": {"method": choice.method, "equals": list(choice.equals), "reason": choice.reason},
        "test": [],
        "left_out": [{"method": name, "reason": reason} for name, reason in left_out],
        "warnings": [rule.reason for rule in advice.rules if rule.warns],
        "seed": seed,
        "blemish": blemish.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _view_in_words(settings: dict[str, Any]) -> list[str]:
    """What all methods share of how they look and what they learn from, where it is not the usual."""
    found = []
    if "tiling" in settings:
        tiling = Tiling.model_validate(settings["tiling"])
        found.append(f"tiles of {tiling.width} × {tiling.height} px, which overlap by {tiling.overlap:.0%}")
    if "roi" in settings:
        found.append("inside a region of interest")
    if "synthetic" in settings:
        steps = DefectSpec.model_validate(settings["synthetic"]).steps
        found.append(f"synthetic defects for methods that learn from defects: {', '.join(s.kind for s in steps)}")
    return found


def _figures(evaluations: Sequence[Judged], images: Sequence[Prediction]) -> dict[str, float]:
    """Every figure to compare by that the method has, and, of a single bundle, those of pixels and verdicts."""
    found: dict[str, float] = {}
    for key, make in METRICS.items():
        statistic = make(images)
        if statistic is not None:
            found[METRIC_NAMES[key]] = statistic(np.arange(len(images), dtype=np.int64))
    if len(evaluations) == 1:
        found |= plain_figures(evaluations[0].figures)
    return found


def plain_figures(result: dict[str, Any]) -> dict[str, float]:
    """Of what `evaluate` gives: the figures of a table."""
    image, pixel = result.get("image", {}), result.get("pixel", {})
    values = {
        METRIC_NAMES["auroc"]: image.get("auroc", {}).get("value"),
        METRIC_NAMES["macro-f1"]: result.get("classes", {}).get("macro_f1"),
        METRIC_NAMES["map50"]: result.get("boxes", {}).get("map50"),
        METRIC_NAMES["iou"]: result.get("masks", {}).get("iou"),
        "pixel AUROC": pixel.get("auroc"),
        "AUPRO": pixel.get("aupro"),
        "escape rate": image.get("escape_rate", {}).get("value"),
        "overkill rate": image.get("overkill_rate", {}).get("value"),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


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
