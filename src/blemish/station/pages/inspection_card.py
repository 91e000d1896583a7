"""The card of one part: everything in its record, also for printing."""

import asyncio

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.station.auth import User
from blemish.station.image_store import stored_image
from blemish.station.models import InspectionRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import (
    HEAT_OUTPUTS,
    div,
    empty_state,
    hint,
    inspection_image,
    local_time,
    measurement_table,
    panel,
    part_name,
    table,
    verdict_badge,
    zoned_time,
)
from blemish.station.recipes import recipe_scale, recipe_title, scale_text
from blemish.station.replay import replay
from blemish.station.schemas import MAX_ID

DISPOSITIONS = ("use as is", "rework", "scrap", "concession")
SIGNATURE = ("Name", "Date", "Signature")
TIMINGS = ("read", "prepare", "network", "decode")


async def build(page: PageSession, request: Request) -> None:
    t = page.t
    text = request.path_params.get("inspection_id", "")
    wanted = int(text) if text.isascii() and text.isdecimal() and int(text[:11]) <= MAX_ID else 0
    row = await page.read(load_inspection, wanted)
    if row is None:
        empty_state("search_off", t("No such part"), t("Search for it under Trace."))
        return
    name = part_name(page, row.part_id, row.id)
    ui.page_title(f"{t(row.verdict)} · {name} · blemish")
    _actions(page, row)
    with panel():
        ui.label(f"{t('Inspection card')}: {t(row.verdict)}").classes("print-only card-title")
        with div("bar"):
            verdict_badge(page, row.verdict, large=True).props("data-name=verdict")
            with ui.element("div"):
                ui.label(name).style("font-weight: 650; font-size: 18px")
                hint(f"{zoned_time(row.created_at)} · {t(row.label)}")
        for reason in page.reasons(row):
            ui.label(reason).props("data-name=reason")
    _pictures(page, row)
    if row.regions:
        with panel(t("Measurements")):
            measurement_table(page, row, limit=50)
    with panel(t("Record")):
        table(_facts(page, row), numbers=False)
    if row.reviews:
        with panel(t("Reviews")):
            for review in row.reviews:
                painted = f" ({t('with a painted mask')})" if review.mask is not None else ""
                ui.label(
                    f"{local_time(review.created_at)} {review.created_by}: {t(review.label)}{painted} {review.note}"
                )
    _disposition(page)


def _disposition(page: PageSession) -> None:
    """On paper: what becomes of the part, and who says so."""
    t = page.t
    with div("print-only disposition"):
        ui.label(t("Disposition")).classes("panel-title")
        with div("bar"):
            for choice in DISPOSITIONS:
                ui.label(f"☐ {t(choice)}")
        with div("signature"):
            for field in SIGNATURE:
                ui.label(t(field))


def load_inspection(session: Session, inspection_id: int) -> InspectionRow | None:
    return session.get(InspectionRow, inspection_id)


def _actions(page: PageSession, row: InspectionRow) -> None:
    t, station = page.t, page.station

    async def inspect_again(user: User) -> None:
        inspector = await asyncio.to_thread(station.service.inspectors.get, row.recipe)
        image = await asyncio.to_thread(stored_image, row, station.settings.images)
        result = await asyncio.to_thread(replay, row, inspector, image, station.settings.max_pixels)
        if result.same:
            page.notify(t("Inspected again: the result is the same."))
        else:
            page.notify_error("; ".join(map(page.error, result.differences)))

    with div("bar no-print"):
        ui.button(t("Print"), icon="print").props("no-caps").on("click", js_handler="() => window.print()")
        review = ui.button(t("Review"), icon="rate_review", on_click=lambda: ui.navigate.to(f"/review?id={row.id}"))
        review.props("no-caps outline")
        again = ui.button(t("Inspect again"), icon="replay", on_click=page.handler("operator", inspect_again))
        again.props("no-caps outline").set_enabled(row.image_path is not None)


def _pictures(page: PageSession, row: InspectionRow) -> None:
    stored = row.image_path is not None
    kinds = [("image", "preview", ""), ("overlay", "overlay", "")] if stored else [("image", "preview", "")]
    if stored and row.error is None and HEAT_OUTPUTS & set(row.recipe.bundle.manifest["outputs"]):
        kinds.append(("heat map", "heatmap", "&colour=true"))
    with div("figures pictures"):
        for name, kind, query in kinds:
            with panel(page.t(name)):
                inspection_image(page, row.id, stored, kind, 640, query).classes("wide")


def _facts(page: PageSession, row: InspectionRow) -> list[tuple[str, str]]:
    t, recipe, bundle = page.t, row.recipe, row.recipe.bundle
    scale = recipe_scale(recipe)
    thresholds = {name: recipe.decision.get(name) for name in ("review", "reject")}
    limits = [f"{t(name)} {value:.6g}" for name, value in thresholds.items() if value is not None]
    facts = (
        ("inspection", str(row.id)),
        ("lot", row.lot),
        ("station", f"{row.station} · {t(row.origin)}"),
        ("score", None if row.score is None else f"{row.score:.6g}"),
        ("thresholds", ", ".join(limits)),
        ("rules", "; ".join(recipe.decision.get("rules", []))),
        ("recipe", recipe_title(recipe)),
        ("method", bundle.manifest["provenance"]["method"]),
        ("scale", None if scale is None else scale_text(scale)),
        ("image", t("{width} × {height} px, {size:,} bytes", width=row.width, height=row.height, size=row.image_bytes)),
        ("SHA-256 of the image", row.image_sha256),
        ("SHA-256 of the bundle", bundle.sha256),
        ("times", ", ".join(f"{t(name)} {ms:.1f} ms" for name, ms in row.timings_ms.items())),
    )
    return [(t(name), value or "–") for name, value in facts]
