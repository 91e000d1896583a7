"""A comment and the buttons that save a new version of a recipe."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from blemish.station.auth import User
from blemish.station.models import RecipeRow
from blemish.station.pages.activate_dialog import activate, ask_reason
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div, panel
from blemish.station.recipes import recipe_title

Save = Callable[[User, str], Awaitable[RecipeRow]]  # with the reason; raises BlemishError for what cannot be saved


def version_bar(page: PageSession, why: str, save: Save, based_on: str) -> None:
    """`why` asks for the reason where there is no comment yet. Saving alone leaves the active recipe, with the title
    `based_on`, as it is."""
    t = page.t
    with panel(), div("bar"):
        comment = ui.input(t("Comment (for the audit log)"))
        comment.props("dense outlined data-name=comment").style("flex: 1 1 220px")

        async def save_only(user: User, reason: str) -> None:
            row = await save(user, reason)
            page.notify(t("Saved as {title}.", title=recipe_title(row)))

        async def save_and_activate(user: User, reason: str) -> None:
            row = await save(user, reason)
            await activate(page, user, row.id, reason, ui.navigate.reload, instead_of=based_on)

        def with_reason(run: Callable[[User, str], Awaitable[None]]) -> Callable[[User], Awaitable[None]]:
            async def go(user: User) -> None:
                reason = (comment.value or "").strip()[:2000]
                if reason:
                    await run(user, reason)
                else:
                    ask_reason(page, why, t("Save"), run)

            return go

        both = ui.button(t("Save and activate"), icon="check")
        both.on_click(page.handler("engineer", with_reason(save_and_activate))).props("no-caps data-name=save")
        only = ui.button(t("Save only"), on_click=page.handler("engineer", with_reason(save_only)))
        only.props("no-caps outline data-name=save-only")
