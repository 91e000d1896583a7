"""Activation of a recipe, after its check on the golden set."""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from blemish.station.auth import User
from blemish.station.golden_set import GoldenLossError
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, part_tile
from blemish.station.schemas import GoldenLoss

OnActivated = Callable[[], Awaitable[None] | None]


async def activate(page: PageSession, user: User, recipe_id: int, comment: str, on_activated: OnActivated) -> None:
    """Activate a recipe; where it loses parts of the golden set, show them and ask for a comment first."""
    try:
        await _activate(page, user, recipe_id, comment, on_activated, accept_losses=False)
    except GoldenLossError as error:
        _ask_comment(page, recipe_id, error.losses, on_activated)


async def _activate(
    page: PageSession, user: User, recipe_id: int, comment: str, on_activated: OnActivated, accept_losses: bool
) -> None:
    await asyncio.to_thread(page.station.activate, recipe_id, user.name, comment, accept_losses)
    page.notify(page.t("The recipe is active."))
    waiting = on_activated()
    if waiting is not None:
        await waiting


def _ask_comment(page: PageSession, recipe_id: int, losses: list[GoldenLoss], on_activated: OnActivated) -> None:
    t = page.t
    with dialog(t("This recipe loses {number} parts of the golden set.", number=len(losses)), 640) as window:
        with div("tiles").style("width: 100%"):
            for loss in losses[:8]:
                with part_tile(page, loss.inspection_id, [loss.verdict], kind="preview", new_tab=True):
                    ui.label(t("true class: {label}", label=t(loss.label)))
        comment = ui.textarea(t("Reason for activating it")).props("outlined autogrow data-name=comment")
        comment.style("width: 100%")

        async def activate_anyway(user: User) -> None:
            window.close()
            await _activate(page, user, recipe_id, comment.value[:2000], on_activated, accept_losses=True)

        with div("bar"):
            ui.button(t("Keep the active recipe"), on_click=window.close).props("no-caps")
            button = ui.button(t("Activate anyway"), on_click=page.handler("engineer", activate_anyway))
            button.props("no-caps outline color=negative")
            button.bind_enabled_from(comment, "value", lambda text: bool(text.strip()))
