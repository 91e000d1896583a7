"""Pieces of pages that show one part."""

from datetime import datetime

from nicegui import ui

from blemish.station.models import InspectionRow
from blemish.station.pages.frame import no_picture, picture, verdict_badge
from blemish.station.pages.session import Visitor

_SHOWN = ("length", "mean_width", "max_width", "area", "feret_max")
_MOST = 12


def measurement_table(visitor: Visitor, row: InspectionRow, most: int = _MOST) -> None:
    """The regions of a part, the worst first, with their measurements in mm where the scale is known."""
    t = visitor.t
    regions = sorted(row.regions, key=lambda region: -(region.score or 0.0))
    with ui.element("div").classes("scroll"), ui.element("table").classes("table"):
        with ui.element("tr"):
            for name in ("defect", "score", "length", "mean width", "max width", "area"):
                _cell("th", t(name), number=name != "defect")
        for region in regions[:most]:
            with ui.element("tr"):
                _cell("td", t(region.label))
                _cell("td", "–" if region.score is None else f"{region.score:.3g}", number=True)
                for name in _SHOWN[:4]:
                    _cell("td", measured(region.measurements, name), number=True)
    if len(regions) > most:
        ui.label(t("and {number} more", number=len(regions) - most)).classes("soft")


def measured(measurements: dict[str, float | None] | None, name: str) -> str:
    """One measurement with its unit, in mm where that is known."""
    square = name == "area"
    for unit, shown in (("mm2", "mm²") if square else ("mm", "mm"), ("px", "px²" if square else "px")):
        value = (measurements or {}).get(f"{name}_{unit}")
        if value is not None:
            return f"{value:.3g} {shown}" if shown.startswith("mm") else f"{value:.0f} {shown}"
    return "–"


def _cell(kind: str, text: str, number: bool = False) -> None:
    with ui.element(kind).classes("number" if number else ""):
        ui.label(text)


def thumbnail(visitor: Visitor, row: InspectionRow, target: str | None = None) -> ui.link:
    """A small picture of a part that leads to its card."""
    with ui.link(target=target or f"/card/{row.id}").classes("thumb") as link:
        if row.image_path is None:
            no_picture(visitor)
        else:
            picture(visitor, row.id, "overlay", 264)
        with ui.element("div"):
            verdict_badge(visitor, row.verdict)
        ui.label(row.part_id or visitor.t("part {id}", id=row.id))
        ui.label(visitor.t(row.label)).classes("soft")
    return link


def local(time: datetime) -> str:
    """In the station's own zone."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"
