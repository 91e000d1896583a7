"""Elements that several pages show: panels, tables, tiles, pictures, alarms."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from nicegui import ui

from blemish.report.measurement_text import format_measurement
from blemish.station.models import InspectionRow
from blemish.station.pages.session import PageSession

TILE_PX = 264
VALUE_COLOUR, LIMIT_COLOUR, POINT_COLOUR = "#3b82c4", "#dc2626", "#94a3b8"  # of charts
MAX_REGIONS = 12
HEAT_OUTPUTS = {"anomaly_map", "mask_scores", "class_map"}  # outputs of a graph that give a heat map


def empty_state(icon: str, title: str, text: str = "") -> None:
    """Shown where there is no content."""
    with ui.column().classes("empty"):
        ui.icon(icon, size="44px")
        ui.label(title).classes("empty-title")
        if text:
            ui.label(text)


def no_recipe(page: PageSession, icon: str) -> None:
    t = page.t
    empty_state(icon, t("No recipe is active"), t("Start the station with --bundle, or promote a training."))


@contextmanager
def panel(title: str = "", extra: str = "") -> Iterator[ui.element]:
    """A white box with a title."""
    with ui.element("section").classes(f"panel {extra}") as box:
        if title:
            ui.label(title).classes("panel-title")
        yield box


@contextmanager
def dialog(title: str, width: int = 440) -> Iterator[ui.dialog]:
    """A window over the page; it stays when the element that opened it is refreshed."""
    with ui.context.client.content, ui.dialog(value=True) as window, ui.card() as card:
        card.style(f"width: {width}px; max-width: 92vw; align-items: stretch")
        ui.label(title).classes("panel-title")
        yield window


def div(classes: str) -> ui.element:
    """A plain container: "bar" (a row), "stack" (a column), "grid2", "tiles", ..."""
    return ui.element("div").classes(classes)


@contextmanager
def two_columns() -> Iterator[tuple[ui.element, ui.element]]:
    with div("grid2"):
        yield div("stack"), div("stack")


def hint(text: str) -> ui.label:
    return ui.label(text).classes("soft")


def alarm(text: str) -> None:
    with div("alarm"):
        ui.icon("warning", size="22px")
        ui.label(text)


def swatch(colour: str) -> None:
    """A small square of a colour, for legends."""
    ui.element("span").classes("swatch").style(f"background: {colour}")


def metric_tile(name: str, value: str, note: str = "", tone: str = "") -> None:
    """One number, large, under its name."""
    with div(f"figure {tone}"):
        ui.label(name).classes("figure-name")
        ui.label(value).classes("figure-value")
        if note:
            ui.label(note).classes("figure-hint")


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = (), numbers: bool = True) -> None:
    """A table of numbers, or of names and texts without `numbers`; the first column holds names."""
    with div("table-box"), ui.element("table").classes("table" if numbers else "table facts"):
        for kind, cells in [*([("th", header)] if header else []), *(("td", row) for row in rows)]:
            with ui.element("tr"):
                for column, text in enumerate(cells):
                    with ui.element(kind).classes("number" if numbers and column else ""):
                        ui.label(text)


def verdict_badge(page: PageSession, verdict: str, large: bool = False, live: int | None = None) -> ui.element:
    """A verdict; `live` is the id of the part, where it is shown as the newest part of the line.

    A large or live one has room for the reason why it is no longer the present one, which the heartbeat writes.
    """
    if not large and live is None:
        return ui.label(page.t(verdict)).classes(f"verdict {verdict}")
    badge = div(f"verdict {verdict} large")
    if live is not None:
        badge.props(f"data-live data-part={live}")
    with badge.props("role=status"):
        ui.label(page.t(verdict)).classes("standing")
        ui.label("").classes("aged")
    return badge


def inspection_image(
    page: PageSession,
    inspection_id: int,
    stored: bool = True,
    kind: str = "overlay",
    side: int = TILE_PX,
    query: str = "",
) -> ui.element:
    """A picture of an inspection from the REST API, which browsers load when it comes into view."""
    if not stored:
        with ui.column().classes("no-picture") as missing:
            ui.icon("hide_image", size="32px")
            ui.label(page.t("image not stored"))
        return missing
    query += f"&language={page.language}" if kind == "overlay" else ""
    source = f"/v1/inspections/{inspection_id}/{kind}?side={side}{query}"
    gone = f"(event) => {{ event.target.alt = {json.dumps(page.t('This picture cannot be shown.'))}; "
    gone += "event.target.classList.add('gone') }"
    image = ui.element("img").props(f'src="{source}" loading=lazy alt="{kind} {inspection_id}"').classes("picture")
    return image.on("error", js_handler=gone)


@contextmanager
def part_tile(
    page: PageSession,
    inspection_id: int,
    verdicts: Sequence[str],
    stored: bool = True,
    kind: str = "overlay",
    new_tab: bool = False,
    escape: bool = False,
) -> Iterator[None]:
    """A small picture of a part with its verdicts, which leads to its card; labels follow in the block.

    `escape`: the last verdict passes a defective part, and so it is shown as an error and not as a pass.
    """
    with ui.link(target=f"/card/{inspection_id}", new_tab=new_tab).classes("thumb escape" if escape else "thumb"):
        inspection_image(page, inspection_id, stored, kind)
        with div("verdicts"):
            for index, verdict in enumerate(verdicts):
                if index:
                    ui.label(" → ").style("display: inline")
                if escape and index == len(verdicts) - 1:
                    ui.label(page.t("escape")).classes("verdict escape")
                else:
                    verdict_badge(page, verdict)
        yield


def thumbnail(page: PageSession, row: InspectionRow) -> None:
    with part_tile(page, row.id, [row.verdict], row.image_path is not None):
        ui.label(part_name(page, row.part_id, row.id))
        hint(page.t(row.label))


def part_name(page: PageSession, part_id: str | None, inspection_id: int) -> str:
    return part_id or page.t("part {id}", id=inspection_id)


def measurement_table(page: PageSession, row: InspectionRow, limit: int = MAX_REGIONS) -> None:
    """The regions of a part, the worst first, with measurements and uncertainties, in mm where the scale is known."""
    t = page.t
    regions = sorted(row.regions, key=lambda region: -(region.score or 0.0))
    header = [t(name) for name in ("defect", "score", "length", "mean width", "max width", "area")]
    measures = ("length", "mean_width", "max_width", "area")
    table(
        (
            [
                t(region.label),
                "–" if region.score is None else f"{region.score:.3g}",
                *(format_measurement(region.measurements, name) for name in measures),
            ]
            for region in regions[:limit]
        ),
        header,
    )
    if len(regions) > limit:
        hint(t("and {number} more", number=len(regions) - limit))


def pager(
    page: PageSession,
    first: int,
    last: int,
    total: int,
    back: Callable[[], object],
    forth: Callable[[], object],
    names: Sequence[str] = ("", ""),
) -> None:
    """Buttons for the previous and the next page of a list; `first` and `last` count from 1."""
    with div("bar"):
        previous = ui.button(names[0], icon="chevron_left", on_click=back)
        previous.props(f'flat dense no-caps aria-label="{names[0] or page.t("previous")}"')
        previous.set_enabled(first > 1)
        hint(f"{first:,} – {last:,} / {total:,}")
        following = ui.button(names[1], icon="chevron_right", on_click=forth)
        following.props(f'flat dense no-caps aria-label="{names[1] or page.t("next")}"')
        following.set_enabled(last < total)


def class_select(page: PageSession, classes: Iterable[str], all_classes: str, value: str = "") -> ui.select:
    """A choice of one class, or of all of them, which is the value ""."""
    select = ui.select({"": page.t(all_classes), **{name: page.t(name) for name in classes}}, value=value)
    select.props(f'dense outlined options-dense aria-label="{page.t("class")}"').style("width: 200px")
    return select


def choice_toggle(options: dict[str, str], value: str) -> ui.toggle:
    toggle = ui.toggle(options, value=value)
    toggle.props("no-caps dense unelevated toggle-color=primary padding='3px 10px'")
    return toggle


def tool_button(name: str, icon: str, on_click: Callable[[], object]) -> None:
    blurring(ui.button(icon=icon, on_click=on_click).props(f'flat dense aria-label="{name}"').tooltip(name))


def blurring(button: ui.button) -> ui.button:
    """A button that loses the focus after a click, so that keys go to the page again."""
    return button.on("click", js_handler="(event) => event.currentTarget.blur()")


def line_chart(names: Sequence[str], series: list[dict[str, Any]], height: int) -> None:
    """Series over named points, such as times."""
    ui.echart(
        {
            "animation": False,
            "grid": {"left": 56, "right": 14, "top": 12, "bottom": 26},
            "xAxis": {"type": "category", "data": list(names), "axisLabel": {"hideOverlap": True}},
            "yAxis": {"type": "value", "scale": True},
            "tooltip": {"trigger": "axis"},
            "series": series,
        }
    ).style(f"height: {height}px; width: 100%")


def local_time(time: datetime) -> str:
    """A time as text in the time zone of the station."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def zoned_time(time: datetime) -> str:
    """The same with the zone's difference from UTC."""
    offset = f"{time.astimezone():%z}"
    return f"{local_time(time)} (UTC{offset[:3]}:{offset[3:5]})"
