"""One self-contained HTML page of an evaluation: nothing in it is fetched from elsewhere."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.dataset.sample import GOOD
from blemish.errors import MissingExtraError
from blemish.inspection.manifest import Manifest
from blemish.inspection.result import Verdict
from blemish.report.confusion import confusion_cells
from blemish.report.curves import Curve, draw_curves
from blemish.report.gallery import Group, Seen
from blemish.report.plots import precision_recall, roc, score_histogram

if TYPE_CHECKING:  # the figures are made on a floor beside this one
    from blemish.evaluation.evaluate import Seen as Judged

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    figures: dict[str, Any],
    manifest: Manifest,
    seen: Sequence[Seen],
    gallery: Sequence[Group],
    judged: Sequence["Judged"] = (),
    curves: Sequence[tuple[str, dict[str, Curve]]] = (),
) -> str:
    """The page of the figures (as `Evaluation.to_dict` gives them), all inspected samples, and the chosen ones' cards.

    `judged` is what the figures rest on of each image, `curves` captions and precision against recall by class.

    Raises MissingExtraError where matplotlib or Jinja2 is not installed.
    """
    return fill_template(
        "report.html",
        figures=figures,
        manifest=manifest,
        sentences=in_words(figures),
        warnings=warnings_of(figures, manifest),
        plots=_plots(manifest, seen),
        verdicts=verdicts_by_class(seen),
        gallery=gallery,
        cells=confusion_cells(judged, figures.get("classes", {}).get("classes", [])),
        curves=[(caption, draw_curves(f"pr-{at}", own)) for at, (caption, own) in enumerate(curves)],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def fill_template(name: str, **values: Any) -> str:
    """A page of the templates' folder. Raises MissingExtraError where matplotlib or Jinja2 is not installed."""
    check_installed()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "number": number, "plain": plain}
    return environment.get_template(name).render(**values)


def check_installed() -> None:
    """Raises MissingExtraError where matplotlib or Jinja2 is not installed."""
    for name in ("jinja2", "matplotlib"):
        if find_spec(name) is None:
            raise MissingExtraError(f"{name} is not installed; pip install 'blemish[report]'")


def percent(rate: float) -> str:
    """A share in per cent, with as many digits as tell it from none and from all."""
    value = 100 * rate
    if 0 < value < 0.01:
        return "< 0.01\N{NO-BREAK SPACE}%"
    if 99.99 < value < 100:
        return "> 99.99\N{NO-BREAK SPACE}%"
    digits = 1 if 1 <= value <= 99 or value in (0, 100) else 2
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')}\N{NO-BREAK SPACE}%"


def interval(estimate: dict[str, Any]) -> str:
    return f"{percent(estimate['low'])} to {percent(estimate['high'])}"


def number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(value: Any) -> str:
    """An option or a count as a reader would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(own)}" for key, own in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(own) for own in value)
    return "none" if value is None else str(value)


def in_words(figures: dict[str, Any]) -> list[str]:
    """What the figures say of escapes, overkill and reviews, and what it would take to prove a lower escape rate."""
    image = figures.get("image", {})
    said = [
        _rate_in_words(image.get("escape_rate"), "defective", "passed", "escape rate", "escapes"),
        _rate_in_words(image.get("overkill_rate"), "good", "were rejected", "overkill rate", "false alarms"),
    ]
    if image.get("review_rate", {}).get("value"):
        said.append(f"{percent(image['review_rate']['value'])} of all parts are up for review by a person.")
    if "proof" in image:
        said += _proof_in_words(image["proof"])
    return said


def _rate_in_words(rate: dict[str, Any] | None, kind: str, happened: str, name: str, unknown: str) -> str:
    if rate is None:
        return f"There is no {kind} image in this data, so nothing is known of {unknown}."
    count = round(rate["value"] * rate["n"]) or "None"
    return (
        f"{count} of {rate['n']} {kind} parts {happened}. The {name} is {percent(rate['value'])}; "
        f"with {percent(0.95)} confidence it lies between {percent(rate['low'])} and {percent(rate['high'])}."
    )


def _proof_in_words(proof: dict[str, Any]) -> list[str]:
    confidence = percent(proof["confidence"])
    said = [f"With {confidence} confidence this proves an escape rate of at most {percent(proof['proven'])}."]
    missing = [row for row in proof["needed"] if row["more"] > 0]
    if missing:
        other = "without another escape" if proof["escapes"] else "without an escape"
        said.append(
            f"To prove at most {percent(missing[0]['rate'])}, {missing[0]['more']:,} more defective parts must be "
            f"inspected {other}."
        )
    return said


def warnings_of(figures: dict[str, Any], manifest: Manifest) -> list[str]:
    """What a reader must know before trusting the figures."""
    found = list(manifest.calibration.warnings) if manifest.calibration is not None else []
    decision = manifest.decision
    if decision.review is None and decision.reject is None and not decision.class_thresholds and not decision.rules:
        found.append(
            "The bundle has no threshold and no rule: every part goes to review. Set them with `blemish decide`."
        )
    if manifest.certificate is None:
        found.append("The bundle has no certificate that its graph agrees with the network it was made from.")
    elif manifest.certificate.detections == 0:
        found.append("Nothing was detected on the images of the certificate, so it says nothing of boxes.")
    data = figures["data"]
    if data["unreadable"]:
        found.append(f"{_count(len(data['unreadable']), 'file')} could not be read; see the end of the page.")
    for name, images in data.get("unknown_classes", {}).items():
        found.append(f"Class {name} ({_count(images, 'image')}) is not one that the bundle knows; all count as missed.")
    if data["unknown"]:
        found.append(f"{data['unknown']} images have no known truth and count in no figure.")
    return found


def verdicts_by_class(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """For each class of the truth, how many images passed, went to review and were rejected."""
    rows: dict[str, dict[str, Any]] = {}
    for sample, found in seen:
        if sample.defective is None:
            continue
        name = sample.label or ("defective" if sample.defective else GOOD)
        row = rows.setdefault(name, {"name": name, "good": not sample.defective, **{str(v): 0 for v in Verdict}})
        row[str(found.verdict)] += 1
    for row in rows.values():
        row["total"] = sum(row[str(v)] for v in Verdict)
    return sorted(rows.values(), key=lambda row: (not row["good"], row["name"]))


def _plots(manifest: Manifest, seen: Sequence[Seen]) -> dict[str, str]:
    known = [(sample, found) for sample, found in seen if sample.defective is not None]
    if not known:
        return {}
    scores = np.array([found.score for _, found in known], np.float64)
    defective = np.array([bool(sample.defective) for sample, _ in known])
    verdicts = [found.verdict for _, found in known]
    plots = {"scores": score_histogram(scores, defective, manifest.decision.review, manifest.decision.reject)}
    if defective.any() and not defective.all():
        plots["roc"] = roc(scores, defective, verdicts)
        plots["pr"] = precision_recall(scores, defective, verdicts)
    return plots


def _count(count: int, noun: str) -> str:
    return f"{count or 'No'} {noun}{'' if count == 1 else 's'}"
