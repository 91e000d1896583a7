"""Rules, zones, class thresholds and the region of interest of the active recipe, drawn on a picture of a part."""

import uuid
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, DataError
from blemish.files import first_problem
from blemish.imaging.roi import Roi
from blemish.inspection.decision_check import check_bundle_decision, region_labels, scored_labels
from blemish.inspection.manifest import Decision, Manifest
from blemish.inspection.rules import MEASUREMENTS
from blemish.station.auth import User
from blemish.station.models import InspectionRow, RecipeRow
from blemish.station.pages.decision_change import DecisionChange, load_active
from blemish.station.pages.polygon_editor import AREA_COLOURS, AreaKind, EditedArea, PolygonEditor, PolygonPoints
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, empty_state, hint, no_recipe, panel, swatch, two_columns
from blemish.station.recipes import recipe_scale
from blemish.station.thresholds import ScoredPart

PICTURE_SIDE = 4096
MAX_PICTURES = 20  # newest stored parts to draw on
KINDS: dict[AreaKind, str] = {"zone": "zone", "inspected": "inspected area", "ignored": "ignored area"}
NEW_AREAS: dict[AreaKind, str] = {
    "zone": "Add zone",
    "inspected": "Set inspected area",
    "ignored": "Add ignored area",
}
ACTIONS, SIGNS = ("reject", "review", "ignore"), (">", ">=", "<", "<=")


async def build(page: PageSession, request: Request) -> None:
    t = page.t
    recipe, parts = await page.read(load_active)
    if recipe is None:
        no_recipe(page, "rule")
        return
    if recipe.views is not None:
        text = t("Zones and areas of single views are given with the recipe, by POST /v1/recipes.")
        empty_state("view_module", t("A recipe of several views"), text)
        return
    pictures = await page.read(_load_pictures)
    if not pictures:
        empty_state("image", t("No picture of a part yet"), t("Zones are drawn on a stored image of a part."))
        return
    await RulesPage(page, recipe, parts, pictures).build()


def _load_pictures(session: Session) -> list[tuple[int, int, int]]:
    """Id, height and width of the newest parts whose image is stored."""
    row = InspectionRow
    query = select(row.id, row.height, row.width).where(row.image_path.is_not(None), row.height > 0, row.width > 0)
    found = session.execute(query.order_by(row.id.desc()).limit(MAX_PICTURES))
    return [(key, int(height or 0), int(width or 0)) for key, height, width in found]


class RulesPage:
    def __init__(
        self, page: PageSession, recipe: RecipeRow, parts: list[ScoredPart], pictures: list[tuple[int, int, int]]
    ) -> None:
        self.page = page
        self.recipe = recipe
        self.manifest = Manifest.model_validate(recipe.bundle.manifest)
        self.change = DecisionChange(page, recipe, parts, "Why are rules or areas changed?")
        self.pictures = pictures
        self.shown = 0  # index of the picture
        self.before_roi = self.change.roi or self.manifest.roi
        self.areas = self._read_areas()
        self.chosen = ""
        self.texts = list(self.change.decision.rules)
        self.editable = page.may("engineer")
        self.editor: PolygonEditor
        self.rules: ui.textarea

    def _read_areas(self) -> list[EditedArea]:
        """The zones as they are, and the areas of the region of interest in pixels of the shown picture."""
        areas = [EditedArea(_new_id(), "zone", name, list(p)) for name, p in self.change.decision.zones.items()]
        roi = self.before_roi
        if roi is None or roi.image_height is None or roi.image_width is None:
            return areas
        _, height, width = self.pictures[self.shown]
        scale = width / roi.image_width, height / roi.image_height
        if roi.polygon is not None or roi.rectangle is not None:
            x0, y0, x1, y1 = roi.rectangle or (0, 0, 0, 0)
            points = roi.polygon or [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            areas.append(EditedArea(_new_id(), "inspected", "", _scaled(points, scale)))
        areas += [EditedArea(_new_id(), "ignored", "", _scaled(points, scale)) for points in roi.ignore]
        return areas

    async def build(self) -> None:
        t, change = self.page.t, self.change
        effect = await change.start()
        with two_columns() as (left, right):
            with left, panel(t("Zones and areas")):
                self.picture()
            with right:
                with panel(t("Areas")):
                    self.area_list()
                self._thresholds()
                self._rules()
        self.roi_note()
        if self.change.parts:
            change.rates(effect)
        if self.editable:
            change.save_bar()
        if self.change.parts:
            change.changes(effect)

    @ui.refreshable_method
    def picture(self) -> None:
        t = self.page.t
        key, height, width = self.pictures[self.shown]
        source = f"/v1/inspections/{key}/preview?side={PICTURE_SIDE}"
        self.editor = PolygonEditor(source, (height, width), self.editable, self._moved, self._choose)
        self.editor.props("data-name=areas").show(self.areas, self.chosen)
        with div("bar"):
            hint(t("Drag a point; drag a small one to add it; Delete removes it. The wheel zooms."))
            ui.space()
            other = ui.button(t("Another part"), icon="image", on_click=self._another).props("no-caps flat dense")
            other.set_enabled(len(self.pictures) > 1)

    def _another(self) -> None:
        _, height, width = self.pictures[self.shown]
        self.shown = (self.shown + 1) % len(self.pictures)
        _, new_height, new_width = self.pictures[self.shown]
        for area in self.areas:
            if area.kind != "zone":  # zones are in pixels of any image; the areas are scaled to each
                area.points = _scaled(area.points, (new_width / width, new_height / height))
        self.picture.refresh()

    @ui.refreshable_method
    def area_list(self) -> None:
        t = self.page.t
        for area in self.areas:
            with div("bar").props(f"data-name=area-{area.kind}"):
                swatch(AREA_COLOURS[area.kind])
                choose = ui.button(t(KINDS[area.kind]), on_click=partial(self._choose, area.id)).props("no-caps dense")
                choose.props("unelevated" if area.id == self.chosen else "outline")
                if area.kind == "zone":
                    field = ui.input(t("name"), value=area.name).props("dense outlined data-name=zone-name")
                    field.style("width: 140px").set_enabled(self.editable)
                    field.on("change", partial(self._rename, area, field))
                if self.editable:
                    remove = ui.button(icon="delete", on_click=partial(self._remove, area.id))
                    remove.props(f'flat dense aria-label="{t("delete")}"')
        if not self.areas:
            hint(t("No zones; all pixels of the bundle's region of interest are inspected."))
        if self.editable:
            with div("bar"):
                for kind, title in NEW_AREAS.items():
                    button = ui.button(t(title), icon="add", on_click=partial(self._add, kind))
                    button.props(f"no-caps outline dense data-name=add-{kind}")
                    taken = any(area.kind == "inspected" for area in self.areas)
                    button.set_enabled(kind != "inspected" or not taken)

    def _thresholds(self) -> None:
        t, own = self.page.t, self.change.decision.class_thresholds
        names = scored_labels(self.manifest)
        with panel(t("Thresholds of single classes")):
            hint(t("Empty: the reject threshold holds for this class too."))
            with div("bar"):
                for name in names:
                    field = ui.number(t(name), value=own.get(name), format="%.5g").style("width: 140px")
                    field.props(f'dense outlined clearable debounce=400 data-name="threshold-{name}"')
                    field.set_enabled(self.editable)
                    field.on_value_change(partial(self._set_threshold, name))

    def _rules(self) -> None:
        t = self.page.t
        with panel(t("Rules")):
            self.rules = ui.textarea(t("One rule a line"), value="\n".join(self.texts))
            self.rules.props("dense outlined autogrow debounce=600 data-name=rules").set_enabled(self.editable)
            self.rules.on_value_change(self._set_rules)
            if self.editable:
                with ui.expansion(t("Compose a rule"), icon="add").props("dense data-name=compose"):
                    self.composer()

    @ui.refreshable_method
    def composer(self) -> None:
        t = self.page.t
        values: dict[str, Any] = {
            "action": "reject", "label": "", "name": "length_px", "sign": ">", "number": 10, "zone": "",
        }  # fmt: skip
        classes = {"": t("any class"), **{name: t(name) for name in region_labels(self.manifest)}}
        zones = {"": t("everywhere"), **{area.name: area.name for area in self.areas if area.kind == "zone"}}
        scaled = recipe_scale(self.recipe) is not None
        names = [name for name in MEASUREMENTS if scaled or "mm" not in name]
        choices: list[tuple[str, Any]] = [
            ("action", {name: t(name) for name in ACTIONS}), ("label", classes), ("name", [*names, "count"]),
            ("sign", list(SIGNS)), ("zone", zones),
        ]  # fmt: skip
        with div("bar"):
            for name, options in choices:
                choice = ui.select(options).bind_value(values, name).props("dense outlined options-dense")
                choice.props(f'aria-label="{t(name)}" data-name=compose-{name}').style("min-width: 110px")
            number = ui.number(t("value")).bind_value(values, "number").props("dense outlined").style("width: 110px")
            number.props("data-name=compose-number")

            async def add(user: User) -> None:
                text = compose_rule(**values)
                self.rules.set_value("\n".join(filter(None, [(self.rules.value or "").strip(), text])))

            ui.button(t("Add rule"), icon="add", on_click=self.page.handler("engineer", add)).props(
                "no-caps dense data-name=add-rule"
            )

    @ui.refreshable_method
    def roi_note(self) -> None:
        if self.change.roi is not None and self.change.roi != self.before_roi:
            with panel():
                hint(self.page.t(
                    "Another inspected area changes scores, which are known only when parts are inspected again: the "
                    "golden set is, at the activation; the list below shows the effect of rules, zones and thresholds."
                )).props("data-name=roi-note")  # fmt: skip

    async def _moved(self, key: str, points: PolygonPoints) -> None:
        area = next((area for area in self.areas if area.id == key), None)
        if area is not None and self.editable:
            area.points = points
            await self._preview()

    async def _choose(self, key: str) -> None:
        self.chosen = key
        self.editor.show(self.areas, key)
        self.area_list.refresh()

    async def _add(self, kind: AreaKind) -> None:
        _, height, width = self.pictures[self.shown]
        x0, y0, x1, y1 = 0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height
        taken = {area.name for area in self.areas}
        name = next(f"zone{n}" for n in range(1, 1000) if f"zone{n}" not in taken) if kind == "zone" else ""
        area = EditedArea(_new_id(), kind, name, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        self.areas.append(area)
        await self._choose(area.id)
        await self._preview()
        self.composer.refresh()

    async def _remove(self, key: str) -> None:
        self.areas = [area for area in self.areas if area.id != key]
        await self._choose("")
        await self._preview()

    async def _rename(self, area: EditedArea, field: ui.input) -> None:
        name = (field.value or "").strip()[:100]
        others = {other.name for other in self.areas if other is not area}
        if not name.isidentifier() or name in others:
            self.page.notify_error(self.page.t("A zone has a name of its own, of letters, digits and _."))
            field.set_value(area.name)
            return
        area.name = name
        await self._preview()
        self.composer.refresh()

    async def _set_threshold(self, name: str, event: Any) -> None:
        own = {key: value for key, value in self.change.decision.class_thresholds.items() if key != name}
        await self._preview(own if event.value is None else {**own, name: float(event.value)})

    async def _set_rules(self, event: Any) -> None:
        self.texts = [line.strip() for line in str(event.value or "").splitlines() if line.strip()]
        await self._preview()

    async def _preview(self, class_thresholds: dict[str, float] | None = None) -> None:
        """Show the effect of all that is edited; a mistake is told, and what was right before stays."""
        change = self.change
        thresholds = change.decision.class_thresholds if class_thresholds is None else class_thresholds
        zones = {area.name: area.points for area in self.areas if area.kind == "zone"}
        try:
            changes = {"zones": zones, "rules": self.texts, "class_thresholds": thresholds}
            decision = Decision.model_validate({**change.decision.model_dump(), **changes})
            check_bundle_decision(decision, self.manifest, recipe_scale(self.recipe) is not None)
            change.roi = self._edited_roi()
        except BlemishError as error:
            self.problem(self.page.error(error))
            return
        except ValueError as error:
            self.problem(self.page.error(first_problem(error) if isinstance(error, ValidationError) else error))
            return
        self.problem("")
        self.editor.show(self.areas, self.chosen)
        if change.parts:
            await change.preview(decision)
        else:
            change.decision = decision
        self.roi_note.refresh()

    def problem(self, text: str) -> None:
        """What is wrong; nothing can be saved until it is mended."""
        self.change.problem = text
        self.rules.props(f"error error-message={text!r}" if text else "", remove="" if text else "error error-message")
        if text:
            self.page.notify_error(text)

    def _edited_roi(self) -> Roi | None:
        """The region of interest with the areas as they are drawn; what locates the part stays."""
        _, height, width = self.pictures[self.shown]
        inspected = next((area.points for area in self.areas if area.kind == "inspected"), None)
        ignored = [area.points for area in self.areas if area.kind == "ignored"]
        before = self.before_roi
        located = {} if before is None else before.model_dump(include={"blob", "contour", "pattern"})
        if self._same_areas():
            return self.change.roi if before is not None else None
        if inspected is None and not ignored and not any(located.values()):
            inspected = [
                (0.0, 0.0),
                (width, 0.0),
                (width, height),
                (0.0, height),
            ]  # all of it, whatever the bundle says
        return Roi.model_validate(
            {**located, "image_height": height, "image_width": width, "polygon": inspected, "ignore": ignored}
        )

    def _same_areas(self) -> bool:
        """Whether the areas are those that the recipe had before."""

        def key(areas: list[EditedArea]) -> list[Any]:
            return [
                (area.kind, [(round(x, 1), round(y, 1)) for x, y in area.points])
                for area in areas
                if area.kind != "zone"
            ]

        return key(self.areas) == key(self._read_areas())


def compose_rule(action: str, label: str, name: str, sign: str, number: float | None, zone: str) -> str:
    """A rule in the language of rules; raises DataError without a number."""
    if number is None:
        raise DataError("give a number to compare with")
    quoted = f'"{label}".' if label and not label.isidentifier() else f"{label}." if label else ""
    return f"{action} if {quoted}{name} {sign} {number:g}" + (f" in zone {zone}" if zone else "")


def _scaled(points: Any, scale: tuple[float, float]) -> PolygonPoints:
    return [(float(x) * scale[0], float(y) * scale[1]) for x, y in points]


def _new_id() -> str:
    return uuid.uuid4().hex[:8]
