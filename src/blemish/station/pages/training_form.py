"""What a training, or a comparison of methods, is started with."""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.inspection.manifest import Manifest, Scale
from blemish.station import recipes
from blemish.station.auth import User
from blemish.station.jobs import compare_commands, known_methods, train_commands
from blemish.station.pages.frame import panel
from blemish.station.pages.session import Visitor

HINTS = {
    "train": "None: the advisor chooses.",
    "compare": "None: those that the advisor ranks first.",
}


class TrainingForm:
    def __init__(self, visitor: Visitor, on_start: Callable[[], None]) -> None:
        self.visitor = visitor
        self.on_start = on_start
        self.place: Path | None = None
        self.truth: frozenset[str] = frozenset()
        self.catalogue: list[dict[str, Any]] | None = None

    async def show(self) -> None:
        t = self.visitor.t
        with panel(t("Training")):
            if importlib.util.find_spec("torch") is None:
                ui.label(t("Learning is not installed here: pip install 'blemish[train]'")).classes("soft")
                return
            self.which = ui.label(t("Open a dataset first.")).classes("soft")
            self.work = ui.toggle({"train": t("Train one method"), "compare": t("Compare methods")}, value="train")
            self.work.props("no-caps dense unelevated toggle-color=primary padding='3px 10px' data-name=work")
            self.methods = ui.select([], label=t("Methods"), multiple=True)
            self.methods.props("dense outlined options-dense use-chips data-name=methods")
            hint = ui.label().classes("soft")
            hint.bind_text_from(self.work, "value", lambda work: t(HINTS[work]))
            self.budget = ui.input(t("Time, such as 30m or 2h (no bound if empty)")).props("dense outlined")
            self.budget.bind_visibility_from(self.work, "value", value="compare")
            scale = await self.visitor.read(_scale_in_use)
            self.scale = ui.number(t("px per mm (if known)"), value=scale, min=0.001).props("dense outlined")
            self.options = ui.textarea(t("Options, NAME=VALUE, one a line")).props("dense outlined autogrow rows=1")
            self.options.props("data-name=options")
            self.button = ui.button(t("Start"), icon="play_arrow", on_click=self.visitor.does("engineer", self._start))
            self.button.props("no-caps data-name=start").style("align-self: flex-start").set_enabled(False)

    def offer(self, place: Path, dataset: Dataset) -> None:
        """A dataset that may be learned from."""
        if not hasattr(self, "button"):
            return
        self.place, self.truth = place, dataset.truth
        self.which.set_text(str(place))
        self.button.set_enabled(True)
        ui.timer(0.05, self.visitor.does("engineer", lambda user: self._list_methods()), once=True)

    async def _list_methods(self) -> None:
        """Listing takes seconds, because it opens the whole room of methods in a process of its own."""
        if self.catalogue is None:
            self.methods.props("loading")
            try:
                self.catalogue = await asyncio.to_thread(known_methods)
            finally:
                self.methods.props(remove="loading")
        able = {m["name"]: f"{m['name']}: {m['summary']}" for m in self.catalogue if set(m["requires"]) <= self.truth}
        self.methods.set_options(able, value=[name for name in self.methods.value or [] if name in able])

    async def _start(self, user: User) -> None:
        if self.place is None:
            return
        methods, scale = list(self.methods.value or []), self.scale.value
        options = [line.strip() for line in (self.options.value or "").splitlines() if line.strip()]
        name = self.place.parent.name if self.place.suffix else self.place.name
        title = f"{', '.join(methods) or 'auto'} · {name}"
        if self.work.value == "compare":
            if len(methods) == 1:
                raise DataError(self.visitor.t("One method is nothing to compare; choose more, or none."))
            commands = compare_commands(self.place, methods, options, (self.budget.value or "").strip())
        elif len(methods) > 1:
            raise DataError(self.visitor.t("Choose one method to train, or compare them."))
        else:
            commands = train_commands(self.place, methods[0] if methods else None, options, scale)
        self.visitor.station.jobs.start(title, commands, user.name, scale)
        self.on_start()


def _scale_in_use(session: Session) -> float | None:
    recipe = recipes.active(session)
    if recipe is None:
        return None
    scale = recipe.scale and Scale.model_validate(recipe.scale)
    scale = scale or Manifest.model_validate(recipe.bundle.manifest).scale
    return None if scale is None else scale.x
