"""The window of the camera settings that a recipe keeps."""

from collections.abc import Callable
from typing import get_args

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.imaging.roi import Roi
from blemish.inspection.manifest import Decision
from blemish.station.auth import User
from blemish.station.cameras.settings import CameraSettings, Trigger, parse_settings
from blemish.station.models import RecipeRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, hint
from blemish.station.recipe_changes import StaleRecipeError, is_current
from blemish.station.recipe_views import required_views
from blemish.station.recipes import recipe_cameras, recipe_title, revise


def edit_cameras(page: PageSession, recipe: RecipeRow, on_saved: Callable[[], object]) -> None:
    """Settings for each view of a recipe, saved as its next version; an empty field is as the camera has it."""
    t = page.t
    kept = recipe_cameras(recipe) or {}
    forms: dict[str, dict[str, ui.input | ui.number | ui.select]] = {}
    with dialog(t("Camera settings of {title}", title=recipe_title(recipe)), 640) as window:
        hint(t("What is left empty stays as the camera has it. A camera that differs takes no picture for the line."))
        for name in required_views(recipe.views):
            if name:
                ui.label(name).style("font-weight: 600")
            with div("bar"):
                forms[name] = _fields(page, name, kept.get(name, CameraSettings()))
        reason = ui.textarea(t("Reason (for the audit log)")).props("outlined autogrow data-name=camera-reason")

        async def save(user: User) -> None:
            text = (reason.value or "").strip()[:2000]
            if not text:
                raise DataError(t("Say why the camera settings are changed."))
            read = {name: parse_settings({key: field.value for key, field in f.items()}) for name, f in forms.items()}
            cameras = {name: own for name, own in read.items() if own != CameraSettings()}
            row = await page.write(_revise, recipe.id, cameras, user.name, text)
            window.close()
            page.notify(t("Saved as {title}.", title=recipe_title(row)))
            on_saved()

        with div("bar"):
            ui.button(t("Cancel"), on_click=window.close).props("no-caps flat")
            button = ui.button(t("Save"), on_click=page.handler("engineer", save))
            button.props("no-caps data-name=save-cameras")


def _fields(page: PageSession, view: str, own: CameraSettings) -> dict[str, ui.input | ui.number | ui.select]:
    t = page.t
    triggers = {"": t("as the camera has it"), **{name: t(name) for name in get_args(Trigger)}}
    fields: dict[str, ui.input | ui.number | ui.select] = {
        "exposure_us": ui.number(t("exposure in µs"), value=own.exposure_us),
        "gain_db": ui.number(t("gain in dB"), value=own.gain_db),
        "roi": ui.input(t("area: x, y, width, height"), value=", ".join(map(str, own.roi or ()))),
        "pixel_format": ui.input(t("pixel format, such as Mono8"), value=own.pixel_format or ""),
        "trigger": ui.select(triggers, value=own.trigger or "", label=t("trigger")),
        "trigger_source": ui.input(t("trigger source, such as Line1"), value=own.trigger_source or ""),
    }
    for name, field in fields.items():
        field.props(f"dense outlined data-name={name}-{view}").style("flex: 1 1 220px")
    return fields


def _revise(session: Session, recipe_id: int, cameras: dict[str, CameraSettings], user: str, comment: str) -> RecipeRow:
    recipe = session.get_one(RecipeRow, recipe_id)
    if not is_current(session, recipe):
        raise StaleRecipeError(
            f"the change was made for {recipe_title(recipe)}, which is neither active nor the newest version now; "
            "reload, and make it again"
        )
    roi = None if recipe.roi is None else Roi.model_validate(recipe.roi)
    decision = Decision.model_validate(recipe.decision)
    return revise(session, recipe, decision, roi, user, comment, cameras=cameras)
