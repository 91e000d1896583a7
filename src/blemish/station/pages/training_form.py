"""The form that starts a training or a comparison of methods."""

import asyncio
import importlib.util
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.jobs import compare_commands, plan_commands, train_commands
from blemish.station.pages.option_form import OptionForm
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import alarm, choice_toggle, div, hint, panel
from blemish.station.recipes import active_recipe, recipe_scale
from blemish.station.repository import log_change

HINTS = {
    "train": "None: the advisor chooses.",
    "compare": "None: the methods that the advisor ranks first.",
}
MAX_ADVISED = 6


class TrainingForm:
    def __init__(self, page: PageSession, on_start: Callable[[], None]) -> None:
        self.page = page
        self.on_start = on_start
        self.path: Path | None = None
        self.annotations: frozenset[str] = frozenset()
        self.catalogue: list[dict[str, Any]] | None = None
        self.plan: dict[str, Any] | None = None
        self.plan_file: Path | None = None
        self.form: OptionForm | None = None

    async def build(self) -> None:
        t = self.page.t
        with panel(t("Training")):
            if importlib.util.find_spec("torch") is None:
                hint(t("Training is not installed here: pip install 'blemish[train]'"))
                return
            self.which = hint(t("Open a dataset first.")).style("overflow-wrap: anywhere")
            advise = self.page.handler("engineer", self._advise)
            self.advise = ui.button(t("Ask the advisor"), icon="lightbulb", on_click=advise)
            self.advise.props("no-caps outline data-name=advise").style("align-self: flex-start").set_enabled(False)
            self.advice()
            self.work = choice_toggle({"train": t("Train one method"), "compare": t("Compare methods")}, "train")
            self.work.props("data-name=work").on_value_change(lambda: self.options_panel.refresh())
            self.methods = ui.select([], label=t("Methods"), multiple=True)
            self.methods.props("dense outlined options-dense use-chips data-name=methods")
            self.methods.on_value_change(lambda: self.options_panel.refresh())
            self.methods.set_enabled(False)  # until they are listed
            hint("").bind_text_from(self.work, "value", lambda work: t(HINTS[work]))
            self.budget = ui.input(t("Time limit, such as 30m or 2h (empty: none)")).props("dense outlined")
            self.budget.bind_visibility_from(self.work, "value", value="compare")
            scale = await self.page.read(_active_scale)
            self.scale = ui.number(t("px per mm (if known)"), value=scale, min=0.001).props("dense outlined")
            self.options_panel()
            self.options = ui.textarea(t("Options, NAME=VALUE, one a line")).props("dense outlined autogrow rows=1")
            self.options.props("data-name=options")
            self.button = ui.button(t("Start"), icon="play_arrow", on_click=self.page.handler("engineer", self._start))
            self.button.props("no-caps data-name=start").style("align-self: flex-start").set_enabled(False)

    def offer(self, path: Path, dataset: Dataset) -> None:
        """Choose the dataset to train with."""
        if not hasattr(self, "button"):
            return
        self.path, self.annotations = path, dataset.annotations
        self.plan = self.plan_file = None
        self.advice.refresh()
        self.which.set_text(str(path))
        self.button.set_enabled(True)
        self.advise.set_enabled(True)
        ui.timer(0.05, self.page.handler("engineer", lambda user: self._list_methods()), once=True)

    async def _list_methods(self) -> None:
        """Listing takes seconds, because a process of its own imports all methods."""
        if self.catalogue is None:
            self.methods.props("loading")
            try:
                self.catalogue = await asyncio.to_thread(self.page.station.jobs.queries.methods)
            finally:
                self.methods.props(remove="loading")
        usable = {m["name"]: m["summary"] for m in self.catalogue if set(m["requires"]) <= self.annotations}
        names = {name: f"{name}: {self.page.t(summary)}" for name, summary in usable.items()}
        self.methods.set_enabled(True)
        self.methods.set_options(names, value=[name for name in self.methods.value or [] if name in names])

    async def _advise(self, user: User) -> None:
        """The advisor's plan, with what the first methods cost on this machine."""
        if self.path is None:
            return
        file = self.page.station.settings.jobs.resolve() / "plans" / f"{uuid.uuid4().hex[:12]}.yaml"
        self.advise.props("loading")
        try:
            plan = await asyncio.to_thread(self.page.station.jobs.queries.plan, self.path, file, self.page.language)
        finally:
            self.advise.props(remove="loading")
        self.plan, self.plan_file = plan, file
        self.advice.refresh()

    @ui.refreshable_method
    def advice(self) -> None:
        t, plan = self.page.t, self.plan
        if plan is None:
            return
        about = plan["about"]
        for warning in about["warnings"]:
            alarm(warning)
        with div("scroll"), ui.element("table").classes("table").props("data-name=advice"):
            with ui.element("tr"):
                for name in ("method", "training", "memory", "latency", ""):
                    with ui.element("th").classes("" if name == "method" else "number"):
                        ui.label(t(name) if name else "")
            for ranked in about["ranking"][:MAX_ADVISED]:
                cost = ranked.get("estimate")
                costs = ("–", "–", "–") if cost is None else (
                    _duration(cost["training_s"]), f"{cost['memory_mb']:.0f} MB", f"{cost['latency_ms']:.3g} ms",
                )  # fmt: skip
                with ui.element("tr"):
                    with ui.element("td"):
                        ui.label(ranked["method"]).tooltip("; ".join(ranked["reasons"]))
                    for text in costs:
                        with ui.element("td").classes("number"):
                            ui.label(text)
                    with ui.element("td").classes("number"):
                        use = ui.button(
                            t("Use"), on_click=self.page.handler("engineer", partial(self._use, ranked["method"]))
                        )
                        use.props("no-caps flat dense data-name=use-method")
        for line in [*about["because"], *about["settings"], *about["more_data"]]:
            hint(f"· {line}")
        by_plan = self.page.handler("engineer", self._train_by_plan)
        button = ui.button(t("Train by this plan"), icon="play_arrow", on_click=by_plan)
        button.props("no-caps outline data-name=train-by-plan").style("align-self: flex-start")

    async def _use(self, method: str, user: User) -> None:
        if self.catalogue is None:
            await self._list_methods()
        if method in (self.methods.options or {}):
            self.methods.set_value([method])

    @ui.refreshable_method
    def options_panel(self) -> None:
        """The options of the one method that is chosen."""
        t, self.form = self.page.t, None
        chosen = list(self.methods.value or [])
        if self.work.value != "train" or len(chosen) != 1 or self.catalogue is None:
            return
        described = next((m for m in self.catalogue if m["name"] == chosen[0]), None)
        if described is None:
            return
        advised = self.plan["train"] if self.plan is not None else {}
        given = advised.get("options", {}) if advised.get("method") == chosen[0] else {}
        with ui.expansion(t("Options of {method}", method=chosen[0]), icon="tune") as expansion:
            expansion.props("dense data-name=options-panel").style("width: 100%")
            self.form = OptionForm(self.page, described["options"], given)
            self.form.build()

    async def _start(self, user: User) -> None:
        if self.path is None:
            return
        methods, scale = list(self.methods.value or []), self.scale.value
        options = [line.strip() for line in (self.options.value or "").splitlines() if line.strip()]
        if self.work.value == "compare":
            if len(methods) == 1:
                raise DataError(self.page.t("A comparison needs more than one method; choose more, or none."))
            commands = compare_commands(self.path, methods, options, (self.budget.value or "").strip())
        elif len(methods) > 1:
            raise DataError(self.page.t("Choose one method to train, or compare them."))
        else:
            typed = {option.partition("=")[0].strip() for option in options}  # these override the form
            changed = [] if self.form is None else self.form.changed()
            options = [option for option in changed if option.partition("=")[0] not in typed] + options
            commands = train_commands(self.path, methods[0] if methods else None, options, scale)
        await self._run(user, ", ".join(methods) or "auto", commands, scale)

    async def _train_by_plan(self, user: User) -> None:
        if self.path is not None and self.plan is not None and self.plan_file is not None:
            commands = plan_commands(self.plan_file, self.path)
            await self._run(user, str(self.plan["train"]["method"]), commands, None)

    async def _run(self, user: User, what: str, commands: list[list[str]], scale: float | None) -> None:
        assert self.path is not None
        name = self.path.parent.name if self.path.suffix else self.path.name
        title = f"{what} · {name}"
        job = self.page.station.jobs.start(title, commands, user.name, scale)
        details = {"job": job.id, "commands": [" ".join(command) for command in commands]}
        await self.page.write(log_change, user.name, "training", title, None, details)
        self.on_start()


def _active_scale(session: Session) -> float | None:
    recipe = active_recipe(session)
    scale = None if recipe is None else recipe_scale(recipe)
    return None if scale is None else scale.x


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
