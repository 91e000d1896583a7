"""The form that starts a training or a comparison of methods."""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.station.auth import User
from blemish.station.jobs import compare_commands, query_methods, train_commands
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import choice_toggle, hint, panel
from blemish.station.recipes import active_recipe, recipe_scale
from blemish.station.repository import log_change

HINTS = {
    "train": "None: the advisor chooses.",
    "compare": "None: the methods that the advisor ranks first.",
}


class TrainingForm:
    def __init__(self, page: PageSession, on_start: Callable[[], None]) -> None:
        self.page = page
        self.on_start = on_start
        self.path: Path | None = None
        self.annotations: frozenset[str] = frozenset()
        self.catalogue: list[dict[str, Any]] | None = None

    async def build(self) -> None:
        t = self.page.t
        with panel(t("Training")):
            if importlib.util.find_spec("torch") is None:
                hint(t("Training is not installed here: pip install 'blemish[train]'"))
                return
            self.which = hint(t("Open a dataset first."))
            self.work = choice_toggle({"train": t("Train one method"), "compare": t("Compare methods")}, "train")
            self.work.props("data-name=work")
            self.methods = ui.select([], label=t("Methods"), multiple=True)
            self.methods.props("dense outlined options-dense use-chips data-name=methods")
            hint("").bind_text_from(self.work, "value", lambda work: t(HINTS[work]))
            self.budget = ui.input(t("Time limit, such as 30m or 2h (empty: none)")).props("dense outlined")
            self.budget.bind_visibility_from(self.work, "value", value="compare")
            scale = await self.page.read(_active_scale)
            self.scale = ui.number(t("px per mm (if known)"), value=scale, min=0.001).props("dense outlined")
            self.options = ui.textarea(t("Options, NAME=VALUE, one a line")).props("dense outlined autogrow rows=1")
            self.options.props("data-name=options")
            self.button = ui.button(t("Start"), icon="play_arrow", on_click=self.page.handler("engineer", self._start))
            self.button.props("no-caps data-name=start").style("align-self: flex-start").set_enabled(False)

    def offer(self, path: Path, dataset: Dataset) -> None:
        """Choose the dataset to train with."""
        if not hasattr(self, "button"):
            return
        self.path, self.annotations = path, dataset.annotations
        self.which.set_text(str(path))
        self.button.set_enabled(True)
        ui.timer(0.05, self.page.handler("engineer", lambda user: self._list_methods()), once=True)

    async def _list_methods(self) -> None:
        """Listing takes seconds, because a process of its own imports all methods."""
        if self.catalogue is None:
            self.methods.props("loading")
            try:
                self.catalogue = await asyncio.to_thread(query_methods)
            finally:
                self.methods.props(remove="loading")
        usable = (m for m in self.catalogue if set(m["requires"]) <= self.annotations)
        names = {m["name"]: f"{m['name']}: {m['summary']}" for m in usable}
        self.methods.set_options(names, value=[name for name in self.methods.value or [] if name in names])

    async def _start(self, user: User) -> None:
        if self.path is None:
            return
        methods, scale = list(self.methods.value or []), self.scale.value
        options = [line.strip() for line in (self.options.value or "").splitlines() if line.strip()]
        name = self.path.parent.name if self.path.suffix else self.path.name
        title = f"{', '.join(methods) or 'auto'} · {name}"
        if self.work.value == "compare":
            if len(methods) == 1:
                raise DataError(self.page.t("A comparison needs more than one method; choose more, or none."))
            commands = compare_commands(self.path, methods, options, (self.budget.value or "").strip())
        elif len(methods) > 1:
            raise DataError(self.page.t("Choose one method to train, or compare them."))
        else:
            commands = train_commands(self.path, methods[0] if methods else None, options, scale)
        job = self.page.station.jobs.start(title, commands, user.name, scale)
        details = {"job": job.id, "commands": [" ".join(command) for command in commands]}
        await self.page.write(log_change, user.name, "training", title, None, details)
        self.on_start()


def _active_scale(session: Session) -> float | None:
    recipe = active_recipe(session)
    scale = None if recipe is None else recipe_scale(recipe)
    return None if scale is None else scale.x
