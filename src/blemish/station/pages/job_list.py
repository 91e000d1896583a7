"""Trainings that run or ran: their progress and output, and the promotion of their bundles."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.errors import DataError
from blemish.inspection.manifest import Scale
from blemish.station import recipes
from blemish.station.auth import User
from blemish.station.image_store import receive_file
from blemish.station.jobs import JobProgress, TrainingJob
from blemish.station.models import BundleRow, RecipeRow
from blemish.station.pages.activate_dialog import activate
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, hint, local_time, panel

REFRESH_S = 1.0
MAX_LISTED, TAIL = 8, 14  # jobs; lines of their output
ICONS = {"running": "sync", "done": "task_alt", "failed": "error", "cancelled": "block", "interrupted": "power_off"}


class JobList:
    def __init__(self, page: PageSession, on_promote: Callable[[], Awaitable[None] | None]) -> None:
        self.page = page
        self.on_promote = on_promote
        self.seen: object = None

    def build(self) -> None:
        self.seen = self._state()
        with panel(self.page.t("Trainings")):
            self.content()
        ui.timer(REFRESH_S, self.update, immediate=False)

    def update(self) -> None:
        """Refresh the list if anything in it has changed."""
        state = self._state()
        if state != self.seen:
            self.seen = state
            self.content.refresh()

    def _state(self) -> object:
        jobs = self.page.station.jobs.all()[:MAX_LISTED]
        return [(job.id, job.state, job.step, job.progress, len(job.lines)) for job in jobs]

    @ui.refreshable_method
    def content(self) -> None:
        jobs = self.page.station.jobs.all()
        if not jobs:
            hint(self.page.t("No trainings yet."))
        for job in jobs[:MAX_LISTED]:
            self._job(job)

    def _job(self, job: TrainingJob) -> None:
        t = self.page.t
        with div("job").props(f"data-name=job-{job.state}"):
            with div("bar"):
                ui.icon(ICONS[job.state], size="20px").classes(job.state)
                ui.label(job.title).style("font-weight: 600")
                hint(f"{t(job.state)} · {local_time(job.started)} · {job.user}")
            if job.state == "running":
                progress = job.progress
                step = f"{job.commands[job.step][0]} ({job.step + 1} / {len(job.commands)})"
                ui.label(" · ".join([step, *_describe(self.page, progress)])).classes("mono")
                share = progress.share if progress else None
                ui.linear_progress(share or 0, show_value=False).props("" if share else "indeterminate")
            if job.lines and job.state in ("running", "failed"):
                ui.label("\n".join(list(job.lines)[-TAIL:])).classes("mono log")
            with div("bar"):
                self._buttons(job)

    def _buttons(self, job: TrainingJob) -> None:
        t = self.page.t
        if job.state == "running":
            cancel = self.page.handler("engineer", partial(self._cancel, job.id))
            ui.button(t("Cancel"), icon="stop", on_click=cancel).props("no-caps outline dense data-name=cancel")
        if job.report is not None:
            ui.link(t("Report"), f"/v1/jobs/{job.id}/report", new_tab=True).props("data-name=report")
        if job.bundles:
            promote = self.page.handler("engineer", partial(self._ask_name, job))
            ui.button(t("Promote"), icon="publish", on_click=promote).props("no-caps dense data-name=promote")

    async def _cancel(self, job_id: str, user: User) -> None:
        await asyncio.to_thread(self.page.station.jobs.cancel, job_id)
        self.update()

    async def _ask_name(self, job: TrainingJob, user: User) -> None:
        t, bundles = self.page.t, job.bundles
        name = await self.page.read(_active_name)
        with dialog(t("Promote")) as window:
            hint(t("The bundle becomes the next version of a recipe, which is activated if the golden set allows it."))
            field = ui.input(t("Recipe"), value=name).props("outlined dense data-name=recipe").style("width: 100%")
            names = {name: t("choice of the comparison") if name == "choice" else name for name in bundles}
            bundle = ui.select(names, value=next(iter(bundles), None), label=t("Bundle"))
            bundle.props("outlined dense options-dense data-name=bundle").style("width: 100%")
            bundle.set_visibility(len(bundles) > 1)

            async def promote(user: User) -> None:
                recipe_id = await self._make_recipe(job, bundle.value, field.value.strip(), user)
                window.close()
                await activate(self.page, user, recipe_id, f"training {job.id}", self.on_promote)

            with div("bar"):
                on_click = self.page.handler("engineer", promote)
                ui.button(t("Promote"), on_click=on_click).props("no-caps data-name=promote-now")
                ui.button(t("Close"), on_click=window.close).props("no-caps flat")

    async def _make_recipe(self, job: TrainingJob, bundle: str | None, name: str, user: User) -> int:
        """A bundle of a job as a new version of a recipe, not active yet; its id."""
        if not name or len(name) > 100 or not all(c.isalnum() or c in "._-" for c in name):
            raise DataError(self.page.t("The name of a recipe has letters, digits, '.', '_' and '-'."))
        source = job.bundles.get(bundle or "")
        if source is None:
            raise DataError(self.page.t("This training has no bundle."))
        station, settings = self.page.station, self.page.station.settings
        with source.open("rb") as stream:
            file = await asyncio.to_thread(receive_file, stream, settings.incoming, settings.max_bundle_bytes)
        try:
            row = await asyncio.to_thread(recipes.import_bundle, station.database, file, settings.bundles, user.name)
        finally:
            file.path.unlink(missing_ok=True)
        note = f"training {job.id}: {job.title}"
        return (await self.page.write(_make_recipe, name, row, user.name, note, job.px_per_mm)).id


def _describe(page: PageSession, progress: JobProgress | None) -> list[str]:
    if progress is None:
        return []
    minutes = None if progress.remaining_s is None else round(progress.remaining_s / 60)
    return [
        *([progress.run] if progress.run != "run" else []),
        page.t(progress.stage),
        *([] if progress.share is None else [f"{progress.share:.0%}"]),
        *([] if progress.loss is None else [page.t("loss {value:.4g}", value=progress.loss)]),
        *([] if minutes is None else [page.t("{number} min left", number=minutes)]),
    ]


def _active_name(session: Session) -> str:
    recipe = recipes.active_recipe(session)
    return "recipe" if recipe is None else recipe.name


def _make_recipe(
    session: Session, name: str, bundle: BundleRow, user: str, note: str, px_per_mm: float | None
) -> RecipeRow:
    """With the scale of the data where the bundle has none, because a comparison does not ask for it."""
    scale = Scale(x=px_per_mm, y=px_per_mm) if px_per_mm and bundle.manifest.get("scale") is None else None
    return recipes.make_recipe(session, name, session.merge(bundle), user, scale=scale, note=note)
