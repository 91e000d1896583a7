"""Trainings that run or ran: how far they are, what they say, and what may be done with them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.inspection.manifest import Scale
from blemish.station import recipes
from blemish.station.auth import User
from blemish.station.image_store import take_in
from blemish.station.jobs import Job
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.frame import dialog, panel
from blemish.station.pages.session import Visitor
from blemish.station.pages.widgets import local

LOOK_S = 1.0
SHOWN, TAIL = 8, 14
ICONS = {"running": "sync", "done": "task_alt", "failed": "error", "cancelled": "block", "interrupted": "power_off"}


class JobList:
    def __init__(self, visitor: Visitor, on_promote: Callable[[], Awaitable[None] | None]) -> None:
        self.visitor = visitor
        self.on_promote = on_promote
        self.seen: object = None

    def show(self) -> None:
        self.seen = self._state()
        with panel(self.visitor.t("Trainings")):
            self.table()
        ui.timer(LOOK_S, self.look, immediate=False)

    def look(self) -> None:
        """Show the list anew where anything in it has changed."""
        now = self._state()
        if now != self.seen:
            self.seen = now
            self.table.refresh()

    def _state(self) -> object:
        jobs = self.visitor.station.jobs.all()
        return [(job.id, job.state, job.at, job.bar, len(job.lines)) for job in jobs]

    @ui.refreshable_method
    def table(self) -> None:
        t = self.visitor.t
        jobs = self.visitor.station.jobs.all()
        if not jobs:
            ui.label(t("None was started here yet.")).classes("soft")
        for job in jobs[:SHOWN]:
            self._one(job)

    def _one(self, job: Job) -> None:
        t = self.visitor.t
        with ui.element("div").classes("job").props(f"data-name=job-{job.state}"):
            with ui.element("div").classes("bar"):
                ui.icon(ICONS[job.state], size="20px").classes(job.state)
                ui.label(job.title).style("font-weight: 600")
                ui.label(f"{t(job.state)} · {local(job.started)} · {job.who}").classes("soft")
            if job.state == "running":
                step = f"{job.commands[job.at][0]} ({job.at + 1} / {len(job.commands)})"
                ui.label(f"{step} {job.bar}").classes("mono")
                ui.linear_progress(job.progress or 0, show_value=False).props("" if job.progress else "indeterminate")
            tail = list(job.lines)[-TAIL:]
            if tail and job.state in ("running", "failed"):
                ui.label("\n".join(tail)).classes("mono log")
            with ui.element("div").classes("bar"):
                self._buttons(job)

    def _buttons(self, job: Job) -> None:
        t = self.visitor.t
        if job.state == "running":
            stop = self.visitor.does("engineer", partial(self._cancel, job.id))
            ui.button(t("Cancel"), icon="stop", on_click=stop).props("no-caps outline dense data-name=cancel")
        if job.report is not None:
            ui.link(t("Report"), f"/jobs/{job.id}/report", new_tab=True).props("data-name=report")
        if job.bundles:
            promote = self.visitor.does("engineer", partial(self._ask_name, job))
            ui.button(t("Promote"), icon="publish", on_click=promote).props("no-caps dense data-name=promote")

    async def _cancel(self, job_id: str, user: User) -> None:
        await asyncio.to_thread(self.visitor.station.jobs.cancel, job_id)
        self.look()

    async def _ask_name(self, job: Job, user: User) -> None:
        t = self.visitor.t
        name = await self.visitor.read(_name_in_use)
        with dialog(t("Promote")) as window:
            ui.label(t("It becomes the next version of a recipe, and is used if it keeps the golden set.")).classes(
                "soft"
            )
            field = ui.input(t("Recipe"), value=name).props("outlined dense data-name=recipe").style("width: 100%")

            found = job.bundles
            which = ui.select(
                {name: _named(t, name) for name in found}, value=next(iter(found), None), label=t("Bundle")
            )
            which.props("outlined dense options-dense data-name=bundle").style("width: 100%")
            which.set_visibility(len(found) > 1)

            async def promote(user: User) -> None:
                recipe_id = await self._take_in(job, which.value, field.value.strip(), user)
                window.close()
                await activate(self.visitor, user, recipe_id, f"training {job.id}", self.on_promote)

            go = self.visitor.does("engineer", promote)
            with ui.element("div").classes("bar"):
                ui.button(t("Promote"), on_click=go).props("no-caps data-name=promote-now")
                ui.button(t("Close"), on_click=window.close).props("no-caps flat")

    async def _take_in(self, job: Job, which: str | None, name: str, user: User) -> int:
        """The bundle of a job as a new version of a recipe, not in use yet."""
        if not name or len(name) > 100 or not all(c.isalnum() or c in "._-" for c in name):
            raise DataError(self.visitor.t("A recipe's name has letters, digits, '.', '_' and '-'."))
        source = job.bundles.get(which or "")
        if source is None:
            raise DataError(self.visitor.t("This training left no bundle."))
        station, settings = self.visitor.station, self.visitor.station.settings
        with source.open("rb") as stream:
            file = await asyncio.to_thread(take_in, stream, settings.incoming, settings.max_bundle_bytes)
        try:
            bundle = await asyncio.to_thread(recipes.take_bundle, station.database, file, settings.bundles, user.name)
        finally:
            file.path.unlink(missing_ok=True)
        made = await self.visitor.write(
            _make, name, bundle, user.name, f"training {job.id}: {job.title}", job.px_per_mm
        )
        return made.id


def _name_in_use(session: Session) -> str:
    recipe = recipes.active(session)
    return "recipe" if recipe is None else recipe.name


def _named(t: Callable[..., str], name: str) -> str:
    return t("the choice of the comparison") if name == "choice" else name


def _make(session: Session, name: str, bundle: BundleRow, who: str, note: str, px_per_mm: float | None) -> RecipeRow:
    """With the scale of the data, where the bundle bears none: a comparison does not ask for it."""
    scale = Scale(x=px_per_mm, y=px_per_mm) if px_per_mm and bundle.manifest.get("scale") is None else None
    return recipes.make_recipe(session, name, session.merge(bundle), who, scale=scale, note=note)
