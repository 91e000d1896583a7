"""One self-contained HTML page of an evaluation: metrics, plots, example images, provenance."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.dataset.sample import GOOD
from blemish.inspection.manifest import Manifest
from blemish.inspection.result import Verdict
from blemish.report.confusion import confusion_cells
from blemish.report.formatting import percent
from blemish.report.gallery import ImageGroup, InspectedSample
from blemish.report.html import render_template
from blemish.report.plots import (
    plot_measured_values,
    plot_precision_recall,
    plot_precision_recall_by_class,
    plot_roc,
    plot_score_histogram,
)
from blemish.translation import ENGLISH, Translate, translator

if TYPE_CHECKING:  # evaluation and report are rooms of one floor
    from blemish.evaluation.curves import PrecisionRecallCurve
    from blemish.evaluation.evaluate import EvaluatedImage


def render_evaluation(
    metrics: dict[str, Any],
    manifest: Manifest,
    inspections: Sequence[InspectedSample],
    gallery: Sequence[ImageGroup],
    images: Sequence["EvaluatedImage"] = (),
    curves: "Sequence[tuple[str, dict[str, PrecisionRecallCurve]]]" = (),
    language: str = ENGLISH,
) -> str:
    """The page of an evaluation.

    `metrics` is what `Evaluation.to_dict` gives, `inspections` all inspected samples, `gallery` groups of images with
    their cards, `images` what the metrics use of each image, `curves` captions and precision-recall curves by class.

    Raises MissingExtraError where matplotlib or Jinja2 is not installed, OptionError for an unknown language.
    """
    t = translator(language)
    return render_template(
        "evaluation.html",
        language,
        metrics=metrics,
        manifest=manifest,
        sentences=summary_sentences(metrics, t),
        warnings=report_warnings(metrics, manifest, t),
        plots=_plots(manifest, inspections, t),
        geometry_plot=_geometry_plot(images, t),
        verdicts=verdicts_by_class(inspections),
        gallery=gallery,
        cells=confusion_cells(images, metrics.get("classes", {}).get("classes", [])),
        curves=[
            (t(caption), plot_precision_recall_by_class(f"pr-{k}", own, t)) for k, (caption, own) in enumerate(curves)
        ],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def summary_sentences(metrics: dict[str, Any], t: Translate) -> list[str]:
    """Sentences on escapes, overkill and reviews, and on the parts that proof of a lower escape rate takes."""
    image = metrics.get("image", {})
    sentences = []
    if (escape := image.get("escape_rate")) is None:
        sentences.append(t("There is no defective image in this data, so nothing is known of escapes."))
    elif hits := _hits(escape):
        sentences.append(t("{count} of {n} defective parts passed.", count=hits, n=escape["n"]))
    else:
        sentences.append(t("None of {n} defective parts passed.", n=escape["n"]))
    if escape is not None:
        text = t(
            "The escape rate is {rate}; with {confidence} confidence it lies between {low} and {high}.", **_ends(escape)
        )
        sentences[-1] = t("{first} {second}", first=sentences[-1], second=text)
    if (overkill := image.get("overkill_rate")) is None:
        sentences.append(t("There is no good image in this data, so nothing is known of false alarms."))
    elif hits := _hits(overkill):
        sentences.append(t("{count} of {n} good parts were rejected.", count=hits, n=overkill["n"]))
    else:
        sentences.append(t("None of {n} good parts were rejected.", n=overkill["n"]))
    if overkill is not None:
        text = t(
            "The overkill rate is {rate}; with {confidence} confidence it lies between {low} and {high}.",
            **_ends(overkill),
        )
        sentences[-1] = t("{first} {second}", first=sentences[-1], second=text)
    if (at_1 := image.get("escape_at_1_percent")) and (at_5 := image.get("escape_at_5_percent")):
        text = t(
            "With the threshold at 1 % false alarms of these images {first} of the defective parts would pass "
            "({first_low} to {first_high}), at 5 % {second} ({second_low} to {second_high}).",
            **{f"first{key}": value for key, value in _named_ends(at_1).items()},
            **{f"second{key}": value for key, value in _named_ends(at_5).items()},
        )
        sentences.append(text)
    if rate := image.get("review_rate", {}).get("value"):
        sentences.append(t("{rate} of all parts are up for review by a person.", rate=percent(rate)))
    return sentences + (_proof_sentences(image["proof"], t) if "proof" in image else [])


def _hits(rate: dict[str, Any]) -> int:
    """The parts with a hit, upwards: a part of several images counts with the share of them that has one."""
    return math.ceil(float(rate["value"]) * int(rate["n"]) - 1e-6)


def _ends(rate: dict[str, Any]) -> dict[str, str]:
    bounds = {name: percent(rate[key]) for name, key in (("rate", "value"), ("low", "low"), ("high", "high"))}
    return bounds | {"confidence": percent(0.95)}


def _named_ends(rate: dict[str, Any]) -> dict[str, str]:
    return {name: percent(rate[key]) for name, key in (("", "value"), ("_low", "low"), ("_high", "high"))}


def _proof_sentences(proof: dict[str, Any], t: Translate) -> list[str]:
    confidence, proven = percent(proof["confidence"]), percent(proof["proven"])
    sentences = [
        t(
            "With {confidence} confidence this proves an escape rate of at most {rate}.",
            confidence=confidence,
            rate=proven,
        )
    ]
    missing = next((row for row in proof["needed"] if row["more"] > 0), None)
    if missing is not None:
        values = {"rate": percent(missing["rate"]), "count": f"{missing['more']:,}"}
        sentences.append(
            t(
                "To prove at most {rate}, {count} more defective parts must be inspected without another escape.",
                **values,
            )
            if proof["escapes"]
            else t(
                "To prove at most {rate}, {count} more defective parts must be inspected without an escape.", **values
            )
        )
    return sentences


def report_warnings(metrics: dict[str, Any], manifest: Manifest, t: Translate) -> list[str]:
    """Limits of the metrics that a reader must know before trusting them."""
    warnings = [t.line(text) for text in manifest.calibration.warnings] if manifest.calibration is not None else []
    decision, data = manifest.decision, metrics["data"]
    if decision.review is None and decision.reject is None and not decision.class_thresholds and not decision.rules:
        warnings.append(
            t("The bundle has no threshold and no rule: every part goes to review. Set them with `blemish decide`.")
        )
    if manifest.certificate is None:
        warnings.append(t("The bundle has no certificate that its graph agrees with the network it was made from."))
    elif manifest.certificate.detections == 0:
        warnings.append(t("Nothing was detected on the images of the certificate, so it says nothing of boxes."))
    if data["unreadable"]:
        count = len(data["unreadable"])
        warnings.append(t("Files that could not be read: {count}; see the end of the page.", count=count))
    return warnings + data_warnings(data, t)


def data_warnings(data: dict[str, Any], t: Translate) -> list[str]:
    """What limits the metrics by the images that they are of: the `data` of an evaluation."""
    warnings = [t.line(line) for line in data.get("warnings", [])]
    for name, count in data.get("unknown_classes", {}).items():
        warnings.append(
            t(
                "The bundle does not know the class {name} (images: {count}); all count as missed.",
                name=name,
                count=count,
            )
        )
    if seen := sum((data.get("seen") or {}).values()):
        warnings.append(
            t(
                "The bundle was trained, tuned or calibrated on {count} of the {all} images: the metrics are too good.",
                count=seen,
                all=data["images"],
            )
        )
    good, defective = data.get("good_parts", data["good"]), data.get("defective_parts", data["defective"])
    if (good, defective) != (data["good"], data["defective"]):
        warnings.append(
            t(
                "The images are of {good} good and {defective} defective parts only, by groups and copies; rates, "
                "intervals and proofs count each part once.",
                good=good,
                defective=defective,
            )
        )
    if data["unknown"]:
        warnings.append(t("Images without annotation, which no metric counts: {count}.", count=data["unknown"]))
    return warnings


def verdicts_by_class(inspections: Sequence[InspectedSample]) -> list[dict[str, Any]]:
    """For each annotated class, how many images passed, went to review and were rejected."""
    rows: dict[str, dict[str, Any]] = {}
    for sample, inspection in inspections:
        if sample.defective is None:
            continue
        name = sample.label or ("defective" if sample.defective else GOOD)
        row = rows.setdefault(name, {"name": name, "good": not sample.defective, **{str(v): 0 for v in Verdict}})
        row[str(inspection.verdict)] += 1
    for row in rows.values():
        row["total"] = sum(row[str(v)] for v in Verdict)
    return sorted(rows.values(), key=lambda row: (not row["good"], row["name"]))


def _geometry_plot(images: Sequence["EvaluatedImage"], t: Translate) -> str:
    """The scatter of measured against true values; empty where no defect with a known shape is found."""
    names = {"length": t("length, px"), "mean_width": t("width, px"), "area": t("area, px²")}
    found = [defect for i in images if i.geometry is not None for defect in i.geometry.defects if defect.measured]
    if not found:
        return ""
    values = {
        shown: (
            np.array([getattr(defect.true, name) for defect in found], np.float64),
            np.array([getattr(defect.measured, name) for defect in found], np.float64),
        )
        for name, shown in names.items()
    }
    return plot_measured_values(values, [t(defect.label) for defect in found], t)


def _plots(manifest: Manifest, inspections: Sequence[InspectedSample], t: Translate) -> dict[str, str]:
    annotated = [(sample, inspection) for sample, inspection in inspections if sample.defective is not None]
    known = [(sample, inspection) for sample, inspection in annotated if math.isfinite(inspection.score)]
    if not known:
        return {}
    scores = np.array([inspection.score for _, inspection in known], np.float64)
    defective = np.array([bool(sample.defective) for sample, _ in known])
    verdicts = [inspection.verdict for _, inspection in known]
    decision = manifest.decision
    plots = {"scores": plot_score_histogram(scores, defective, decision.review, decision.reject, t)}
    if defective.any() and not defective.all():
        plots["roc"] = plot_roc(scores, defective, verdicts, t)
        plots["pr"] = plot_precision_recall(scores, defective, verdicts, t)
    if left_out := len(annotated) - len(known):
        plots["note"] = t("Images whose score is not a number, which no plot has: {count}.", count=left_out)
    return plots
