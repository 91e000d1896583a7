"""The result of a comparison as plain data, for its page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

import blemish
from blemish.evaluation.comparison import (
    METRIC_NAMES,
    METRICS,
    MethodCost,
    RankedMethod,
    choose_method,
    list_notes,
    pareto_front,
)
from blemish.evaluation.predictions import Prediction
from blemish.inspection.manifest import Tiling
from blemish.methods.catalogue import method_class
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.advice.plan import Advice
from blemish.training.comparison.runs import EvaluatedRun, training_seconds
from blemish.training.comparison.setup import ComparisonSetup, LeftOut
from blemish.translation import Message


@dataclass(frozen=True)
class ComparisonResult:
    """The ranking by one metric, and the evaluated runs of each method: one for each fold."""

    metric: str
    ranking: list[RankedMethod]
    predictions: dict[str, list[Prediction]]
    runs: dict[str, list[EvaluatedRun]]


def summarize(
    setup: ComparisonSetup,
    advice: Advice,
    options: Mapping[str, dict[str, Any]],
    result: ComparisonResult,
    left_out: LeftOut,
    seed: int,
) -> dict[str, Any]:
    """The comparison as plain data: everything that its page and its JSON show."""
    rows = []
    for ranked in result.ranking:
        name = ranked.method
        runs = result.runs[name]
        speed, sizes = runs[0].metrics["speed"], [own.metrics["bundle"]["size_mb"] for own in runs]
        seconds = [training_seconds(run) for _, run in setup.list_runs(name)]
        rows.append(
            {
                "method": name,
                "title": method_class(name).info.title,
                "value": ranked.value,
                "low": ranked.low,
                "high": ranked.high,
                "difference": None if ranked.difference is None else asdict(ranked.difference),
                "significantly_worse": ranked.significantly_worse,
                "latency_ms": speed["latency_ms"]["median"],
                "images_per_second": speed["images_per_second"],
                "size_mb": max(sizes),
                "training_s": None if None in seconds else sum(s for s in seconds if s is not None),
                "metrics": _method_metrics(runs, result.predictions[name]),
                "options": options[name],
            }
        )
    costs = {row["method"]: MethodCost(row["latency_ms"], row["size_mb"]) for row in rows}
    choice = choose_method(result.ranking, costs, result.metric)
    quality = {row["method"]: row["value"] for row in rows}
    images = next(iter(result.predictions.values()))
    basis = _basis_messages(setup, len(images), len(rows))
    return {
        "data": {
            "name": setup.dataset.root.name,
            "root": str(setup.dataset.root),
            "setting": setup.dataset.setting,
            "counts": {
                split: {
                    "images": len(setup.dataset.split(split)),
                    "defective": sum(s.defective is True for s in setup.dataset.split(split).samples),
                }
                for split in ("train", "val", "test")
            },
        },
        "metric": {"key": result.metric, "name": METRIC_NAMES[result.metric]},
        "basis": {
            "kind": setup.basis,
            "folds": len(setup.folds),
            "images": len(images),
            "defective": sum(i.defective is True for i in images),
            "words": " ".join(map(str, basis)),
            "messages": [asdict(message) for message in basis],
        },
        "shared_settings": [asdict(message) for message in _shared_settings(setup.settings)],
        "ranking": rows,
        "pareto_fronts": {
            key: pareto_front(quality, {row["method"]: row[key] for row in rows}) for key in ("latency_ms", "size_mb")
        },
        "choice": {
            "method": choice.method,
            "equals": list(choice.equals),
            "reason": choice.reason,
            "reasons": [asdict(message) for message in choice.reasons],
        },
        "test": [],
        "notes": [asdict(note) for note in list_notes(result.ranking)],
        "left_out": [{"method": name, "reason": reason} for name, reason in left_out],
        "warnings": [rule.reason for rule in advice.rules if rule.warns],
        "seed": seed,
        "blemish": blemish.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _shared_settings(settings: dict[str, Any]) -> list[Message]:
    """Settings of all methods that are not the defaults."""
    messages = []
    if "tiling" in settings:
        tiling = Tiling.model_validate(settings["tiling"])
        values = {"width": tiling.width, "height": tiling.height, "overlap": f"{tiling.overlap:.0%}"}
        messages.append(Message("tiles of {width} × {height} px with an overlap of {overlap}", values))
    if "roi" in settings:
        messages.append(Message("inside a region of interest"))
    if "synthetic" in settings:
        kinds = ", ".join(step.kind for step in DefectSpec.model_validate(settings["synthetic"]).steps)
        messages.append(
            Message("synthetic defects for methods that are trained with defects: {kinds}", {"kinds": kinds})
        )
    return messages


def _method_metrics(runs: Sequence[EvaluatedRun], images: Sequence[Prediction]) -> dict[str, float]:
    """Every metric of comparison that the method has and, from a single bundle, also pixel metrics and error rates."""
    metrics: dict[str, float] = {}
    for key, prepare in METRICS.items():
        statistic = prepare(images)
        if statistic is not None:
            metrics[METRIC_NAMES[key]] = statistic(np.arange(len(images), dtype=np.int64))
    return metrics | (table_metrics(runs[0].metrics) if len(runs) == 1 else {})


def table_metrics(result: dict[str, Any]) -> dict[str, float]:
    """The metrics of a table, from the dict of an evaluation."""
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


def _basis_messages(setup: ComparisonSetup, images: int, methods: int) -> list[Message]:
    counts: dict[str, object] = {"images": images, "folds": len(setup.folds)}
    if setup.basis == "folds":
        return [
            Message(
                "The choice is based on {folds}-fold cross-validation over the {images} training and validation "
                "images: each was evaluated by a bundle that was not trained on it.",
                counts,
            ),
            Message(
                "The test images were not used for it; only the chosen method, trained again on all training images, "
                "was evaluated on them."
            ),
        ]
    if setup.basis == "validation":
        return [
            Message(
                "The choice is based on the {images} validation images. Thresholds, and for some methods the best "
                "epoch, were chosen on them too, so their metrics may be too good; --folds avoids that.",
                counts,
            ),
            Message("The test images were not used."),
        ]
    biased = Message("Choosing the best of several methods on them makes its metric too good.")
    return [
        Message(
            "The validation images cannot rank methods, because they have no defects, so the choice is based on the "
            "{images} test images.",
            counts,
        ),
        *([biased] if methods > 1 else []),
        Message(
            "Evaluate the chosen bundle on images that were used for no choice, or move some of the defects to the "
            "validation images."
        ),
    ]
