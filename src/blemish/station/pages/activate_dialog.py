"""Changing over to a recipe, past the golden set."""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from blemish.station.auth import User
from blemish.station.golden import GoldenLossError, change_over
from blemish.station.pages.frame import dialog, picture, verdict_badge
from blemish.station.pages.session import Visitor
from blemish.station.schemas import Loss

Done = Callable[[], Awaitable[None] | None]


async def activate(visitor: Visitor, user: User, recipe_id: int, why: str, done: Done) -> None:
    """Use a recipe; where it loses parts of the golden set, show which and ask why to use it all the same."""
    try:
        await _change_over(visitor, user, recipe_id, why, accept_losses=False)
    except GoldenLossError as error:
        _ask_why(visitor, recipe_id, error.losses, done)
        return
    await _finish(visitor, done)


async def _change_over(visitor: Visitor, user: User, recipe_id: int, why: str, accept_losses: bool) -> None:
    station = visitor.station
    await asyncio.to_thread(
        change_over,
        station.database,
        station.service.inspectors,
        station.settings.images,
        recipe_id,
        user.name,
        why,
        accept_losses,
    )


async def _finish(visitor: Visitor, done: Done) -> None:
    visitor.tell(visitor.t("The recipe is in use."))
    waiting = done()
    if waiting is not None:
        await waiting


def _ask_why(visitor: Visitor, recipe_id: int, lost: list[Loss], done: Done) -> None:
    t = visitor.t
    with dialog(t("This recipe loses {number} parts of the golden set.", number=len(lost)), 640) as window:
        with ui.element("div").classes("tiles").style("width: 100%"):
            for loss in lost[:8]:
                with ui.link(target=f"/card/{loss.inspection_id}", new_tab=True).classes("thumb"):
                    picture(visitor, loss.inspection_id, "picture", 264)
                    with ui.element("div"):
                        verdict_badge(visitor, loss.verdict)
                    ui.label(t("truly {label}", label=t(loss.label)))
        why = (
            ui.textarea(t("Why use it all the same?"))
            .props("outlined autogrow")
            .style("width: 100%")
            .props("data-name=why")
        )

        async def use_anyway(user: User) -> None:
            window.close()
            await _change_over(visitor, user, recipe_id, why.value[:2000], accept_losses=True)
            await _finish(visitor, done)

        with ui.element("div").classes("bar"):
            ui.button(t("Keep the recipe in use"), on_click=window.close).props("no-caps")
            use = ui.button(t("Use it all the same"), on_click=visitor.does("engineer", use_anyway))
            use.props("no-caps outline color=negative").bind_enabled_from(why, "value", lambda text: bool(text.strip()))
