"""One self-contained HTML page of a probability of detection: how small a defect a bundle finds."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blemish.arrays import Picture
from blemish.report.gallery import data_uri
from blemish.report.html import render_template
from blemish.report.plots import plot_detection
from blemish.translation import ENGLISH, Translate, translator

if TYPE_CHECKING:  # evaluation and report are rooms of one floor
    from blemish.evaluation.pod_result import PodCurve, PodResult

EXAMPLE_SIDE = 180  # px


def render_pod(
    result: "PodResult",
    assumptions: Sequence[str],
    examples: Mapping[str, Sequence[tuple[str, bool, Picture]]],
    language: str = ENGLISH,
) -> str:
    """The page of what `pod` found; `examples` are defects of each kind: a caption, whether found, and a picture.

    Raises MissingExtraError where matplotlib or Jinja2 is not installed, OptionError for an unknown language.
    """
    t = translator(language)
    kinds = list(dict.fromkeys(curve.kind for curve in result.curves))
    return render_template(
        "pod.html",
        language,
        result=result,
        rows=[_row(curve, result.px_per_mm, t) for curve in result.curves],
        warnings=[t.line(str(warning)) for warning in result.warnings],
        assumptions=assumptions,
        plots={kind: plot_detection(f"pod-{kind}", [c for c in result.curves if c.kind == kind], t) for kind in kinds},
        examples={
            kind: [(caption, found, data_uri(picture, EXAMPLE_SIDE)) for caption, found, picture in examples[kind]]
            for kind in kinds
            if examples.get(kind)
        },
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def size_text(size: float | None, px_per_mm: tuple[float, float] | None) -> str:
    """A size in px, and in mm with a scale (x, y): a range where it depends on the direction; a dash if not known."""
    if size is None:
        return "–"
    if px_per_mm is None:
        return f"{size:.3g} px"
    ends = dict.fromkeys(f"{size / own:.2g}" for own in sorted(px_per_mm, reverse=True))
    return f"{size:.3g} px ({'–'.join(ends)} mm)"


def _row(curve: "PodCurve", px_per_mm: tuple[float, float] | None, t: Translate) -> dict[str, str]:
    fit = curve.fit
    return {
        "kind": t(curve.kind),
        "strength": f"{curve.strength:g}",
        "contrast": "–" if curve.contrast is None else f"{curve.contrast:.2g}",
        "sizes": t("{low} to {high}", low=f"{fit.smallest:.3g}", high=f"{fit.largest:.3g}"),
        "found": t("{count} of {total}", count=fit.hits, total=fit.trials),
        "located": "–" if curve.located is None else f"{curve.located.value:.0%}",
        "a50": size_text(fit.a50, px_per_mm),
        "a90": size_text(fit.a90, px_per_mm),
        "a90_95": size_text(fit.a90_95, px_per_mm),
        "notes": t("; ").join(note.translated(t) for note in curve.notes()),
    }
