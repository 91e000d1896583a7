"""The card of one part: all that the record knows of it, fit to be printed."""

import asyncio
from collections.abc import Iterable

from fastapi import Request
from nicegui import ui
from sqlalchemy.orm import Session

from blemish.inspection.manifest import Manifest, Scale
from blemish.station.auth import User
from blemish.station.image_store import kept_image
from blemish.station.models import InspectionRow
from blemish.station.pages.frame import empty, no_picture, panel, picture
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local, measurement_table
from blemish.station.replay import replay
from blemish.station.schemas import MAX_ID


async def build(visitor: Visitor, request: Request) -> None:
    t = visitor.t
    text = request.path_params.get("inspection_id", "")
    wanted = int(text) if text.isascii() and text.isdecimal() and int(text[:11]) <= MAX_ID else 0
    row = await visitor.read(_find, wanted)
    if row is None:
        empty("search_off", t("There is no such part"), t("Search for it under Trace."))
        return
    _actions(visitor, row)
    with panel():
        with ui.element("div").classes("bar"):
            ui.label(t(row.verdict)).classes(f"verdict large {row.verdict}").props("data-name=verdict")
            with ui.element("div"):
                ui.label(row.part_id or t("part {id}", id=row.id)).style("font-weight: 650; font-size: 18px")
                ui.label(f"{local(row.created_at)} · {t(row.label)}").classes("soft")
        for reason in row.reasons:
            ui.label(visitor.reason(reason)).props("data-name=reason")
    _pictures(visitor, row)
    if row.regions:
        with panel(t("Measurements")):
            measurement_table(visitor, row, most=50)
    with panel(t("Record")):
        _facts(visitor, row)
    if row.reviews:
        with panel(t("Reviews")):
            for review in row.reviews:
                drawn = f" ({t('with a drawn mask')})" if review.mask is not None else ""
                ui.label(f"{local(review.at)} {review.who}: {t(review.label)}{drawn} {review.note}")


def _find(session: Session, inspection_id: int) -> InspectionRow | None:
    return session.get(InspectionRow, inspection_id)


def _actions(visitor: Visitor, row: InspectionRow) -> None:
    t = visitor.t

    async def again(user: User) -> None:
        inspector = await asyncio.to_thread(visitor.station.service.inspectors.get, row.recipe)
        image = await asyncio.to_thread(kept_image, row, visitor.station.settings.images)
        found = await asyncio.to_thread(replay, row, inspector, image, visitor.station.settings.max_pixels)
        if found.same:
            visitor.tell(t("Inspected again: the answer is the same."))
        else:
            visitor.complain("; ".join(found.differences))

    with ui.element("div").classes("bar no-print"):
        ui.button(t("Print"), icon="print").props("no-caps").on("click", js_handler="() => window.print()")
        ui.button(t("Review"), icon="rate_review", on_click=lambda: ui.navigate.to(f"/review?id={row.id}")).props(
            "no-caps outline"
        )
        button = ui.button(t("Inspect again"), icon="replay", on_click=visitor.does("operator", again))
        button.props("no-caps outline").set_enabled(row.image_path is not None)


def _pictures(visitor: Visitor, row: InspectionRow) -> None:
    t = visitor.t
    if row.image_path is None:
        no_picture(visitor)
        return
    outputs = set(row.recipe.bundle.manifest["outputs"])
    kinds = [("image", "picture"), ("overlay", "overlay")]
    if outputs & {"anomaly_map", "mask_scores", "class_map"} and row.error is None:
        kinds.append(("heat map", "heat"))
    with ui.element("div").classes("figures pictures"):
        for name, kind in kinds:
            with panel(t(name)):
                picture(visitor, row.id, kind, 640, "&colours=true" if kind == "heat" else "").classes("wide")


def _facts(visitor: Visitor, row: InspectionRow) -> None:
    t = visitor.t
    recipe, bundle = row.recipe, row.recipe.bundle
    manifest = Manifest.model_validate(bundle.manifest)
    scale = manifest.scale if recipe.scale is None else Scale.model_validate(recipe.scale)
    facts: Iterable[tuple[str, str]] = (
        ("inspection", str(row.id)),
        ("lot", row.lot or "–"),
        ("station", f"{row.station} · {t(row.source)}"),
        ("score", "–" if row.score is None else f"{row.score:.6g}"),
        ("thresholds", _thresholds(visitor, row)),
        ("rules", "; ".join(recipe.decision.get("rules", [])) or "–"),
        ("recipe", f"{recipe.name} {t('version')} {recipe.version}"),
        ("method", manifest.provenance.method),
        ("scale", "–" if scale is None else f"{scale.x:g} × {scale.y:g} px/mm"),
        ("image", f"{row.width} × {row.height} px, {row.image_bytes:,} bytes"),
        ("SHA-256 of the image", row.image_sha256),
        ("SHA-256 of the bundle", bundle.sha256),
        ("times", ", ".join(f"{t(name)} {ms:.1f} ms" for name, ms in row.timings_ms.items())),
    )
    with ui.element("table").classes("table"):
        for name, value in facts:
            with ui.element("tr"):
                with ui.element("td").classes("soft"):
                    ui.label(t(name))
                with ui.element("td").classes("long"):
                    ui.label(value).classes("mono" if name.startswith("SHA") else "")


def _thresholds(visitor: Visitor, row: InspectionRow) -> str:
    decision = row.recipe.decision
    found = [
        f"{visitor.t(name)} {decision[name]:.6g}" for name in ("review", "reject") if decision.get(name) is not None
    ]
    return ", ".join(found) or "–"
