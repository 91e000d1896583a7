"""A list of inspected parts as a page for paper."""

from collections.abc import Sequence

from blemish.report.html import render_template
from blemish.report.measurement_text import format_measurement
from blemish.station.models import InspectionRow, now
from blemish.station.recipes import recipe_title
from blemish.station.repository import InspectionFilter, reviewed_label
from blemish.translation import ENGLISH, Translate, translator

MAX_ROWS = 2000
CONDITIONS = {
    "part_id": "part",
    "part_contains": "part contains",
    "lot": "lot",
    "lot_contains": "lot contains",
    "verdict": "verdict",
    "label": "defect",
    "recipe": "recipe",
    "station": "station",
    "since": "from",
    "until": "until",
    "min_area_px": "min. area, px²",
    "min_length_px": "min. length, px",
    "min_area_mm2": "min. area, mm²",
    "min_length_mm": "min. length, mm",
    "reviewed": "reviewed",
    "production": "production",
}


def render_parts(
    rows: Sequence[InspectionRow], total: int, where: InspectionFilter, station: str, language: str = ENGLISH
) -> str:
    """The HTML of a list of at most `MAX_ROWS` parts, with the conditions of the search; times are the station's."""
    t = translator(language)
    given = where.model_dump(exclude_none=True, mode="json", exclude={"language"})
    offset = f"{now().astimezone():%z}"
    cells = []
    for row in rows[:MAX_ROWS]:
        largest = max(row.regions, key=lambda region: region.area_px or 0.0, default=None)
        cells.append((
            str(row.id), f"{row.created_at.astimezone():%Y-%m-%d %H:%M:%S}", row.part_id or "–", row.lot or "–",
            t(row.verdict), t(row.label), "–" if row.score is None else f"{row.score:.4g}",
            "–" if largest is None else format_measurement(largest.measurements, "length"),
            _translated(t, reviewed_label(row)), recipe_title(row.recipe),
        ))  # fmt: skip
    header = ("No.", "time", "part", "lot", "verdict", "defect", "score", "length", "Review", "recipe")
    return render_template(
        "parts.html",
        language,
        title=station,
        conditions=[(t(CONDITIONS[name]), str(value)) for name, value in given.items()],
        header=[t(name) for name in header],
        rows=cells,
        total=total,
        zone=f"UTC{offset[:3]}:{offset[3:5]}",
        made=f"{now().astimezone():%Y-%m-%d %H:%M}",
    )


def _translated(t: Translate, label: str | None) -> str:
    return "–" if label is None else t(label)
