"""Activation of a recipe: why, what becomes worse on known parts, and its check on the golden set."""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.inspection.manifest import Decision
from blemish.station import thresholds
from blemish.station.auth import User
from blemish.station.golden_set import GoldenLossError
from blemish.station.models import RecipeRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import alarm, dialog, div, hint, part_tile
from blemish.station.recipes import active_recipe
from blemish.station.schemas import GoldenLoss
from blemish.station.thresholds import DecisionEffect

OnActivated = Callable[[], Awaitable[None] | None]
WithReason = Callable[[User, str], Awaitable[None]]
Effects = tuple[DecisionEffect, DecisionEffect]  # of the active decision and of the new one, on the same known parts


async def activate(
    page: PageSession,
    user: User,
    recipe_id: int,
    comment: str,
    on_activated: OnActivated,
    instead_of: str | None = None,
) -> None:
    """Activate a recipe; asks for a reason where there is none yet, and where it loses parts of the golden set.

    `instead_of` is the title of the recipe that a change was based on, which must still be the active one.
    """
    if not comment.strip():
        t = page.t

        async def go_on(user: User, reason: str) -> None:
            await activate(page, user, recipe_id, reason, on_activated, instead_of)

        effects = await page.read(_load_effects, recipe_id)
        ask_reason(page, t("Why is this recipe activated?"), t("Activate"), go_on, effects)
        return
    try:
        await _activate(page, user, recipe_id, comment, on_activated, instead_of)
    except GoldenLossError as error:
        _ask_to_accept(page, recipe_id, error.losses, on_activated, instead_of)


def ask_reason(
    page: PageSession, title: str, button: str, run: WithReason, effects: Effects | None = None, reason: str = ""
) -> None:
    """A window that asks for a reason, and says what becomes worse on known parts, before `run(user, reason)`."""
    t = page.t
    with dialog(title) as window:
        if effects is not None and not effects[1].verdicts:
            hint(t("This recipe has inspected no part yet: only the golden set tells what it changes."))
        if effects is not None and effects[1].is_worse_than(effects[0]):
            before, after = effects
            if after.escapes > before.escapes:
                alarm(t("Known escapes: {before} → {after}", before=before.escapes, after=after.escapes))
            if after.overkills > before.overkills:
                alarm(t("Known overkill: {before} → {after}", before=before.overkills, after=after.overkills))
        if effects is not None:
            untold_hint(page, effects[1])
        text = ui.textarea(t("Reason (for the audit log)"), value=reason).props("outlined autogrow data-name=reason")

        async def confirmed(user: User) -> None:
            window.close()
            await run(user, text.value.strip()[:2000])

        with div("bar"):
            ui.button(t("Cancel"), on_click=window.close).props("no-caps flat")
            go = ui.button(button, on_click=page.handler("engineer", confirmed)).props("no-caps data-name=confirm")
            go.bind_enabled_from(text, "value", lambda value: bool((value or "").strip()))


def untold_hint(page: PageSession, effect: DecisionEffect) -> None:
    """How many parts have a verdict that the record does not tell, where there are any."""
    if effect.untold:
        text = (
            "Cannot be told: {number:,} parts, {defective:,} of them known to be defective. Heat maps and ignored "
            "regions are not recorded, so that only another inspection shows what the rules do; rates are without "
            "these parts."
        )
        hint(page.t(text, number=effect.untold, defective=effect.untold_defects)).props("data-name=untold")


def _load_effects(session: Session, recipe_id: int) -> Effects | None:
    """What the active recipe and another one make of known parts, where both have one bundle, and so one score.

    None for recipes of several views: of these the golden set alone tells.
    """
    active, wanted = active_recipe(session), session.get_one(RecipeRow, recipe_id)
    if active is None or active.bundle_id != wanted.bundle_id or active.views or wanted.views:
        return None
    parts = thresholds.load_scored_parts(session, wanted)
    before, after = (thresholds.preview_decision(parts, Decision.model_validate(r.decision)) for r in (active, wanted))
    return before, after


async def _activate(
    page: PageSession,
    user: User,
    recipe_id: int,
    comment: str,
    on_activated: OnActivated,
    instead_of: str | None,
    accept_losses: bool = False,
) -> None:
    await asyncio.to_thread(page.station.activate, recipe_id, user.name, comment, accept_losses, instead_of)
    page.notify(page.t("The recipe is active."))
    waiting = on_activated()
    if waiting is not None:
        await waiting


def _ask_to_accept(
    page: PageSession, recipe_id: int, losses: list[GoldenLoss], on_activated: OnActivated, instead_of: str | None
) -> None:
    t = page.t
    losses = sorted(losses, key=lambda loss: not thresholds.is_escape(loss.label, loss.verdict))
    with dialog(t("Parts of the golden set that this recipe loses: {number}", number=len(losses)), 640) as window:
        with div("tiles").style("width: 100%; max-height: 50vh; overflow: auto"):
            for loss in losses:
                escape = thresholds.is_escape(loss.label, loss.verdict)
                with part_tile(page, loss.inspection_id, [loss.verdict], kind="preview", new_tab=True, escape=escape):
                    ui.label(t("true class: {label}", label=t(loss.label)))
        comment = ui.textarea(t("Reason for activating it")).props("outlined autogrow data-name=comment")
        comment.style("width: 100%")

        async def activate_anyway(user: User) -> None:
            window.close()
            reason = comment.value[:2000]
            await _activate(page, user, recipe_id, reason, on_activated, instead_of, accept_losses=True)

        with div("bar"):
            ui.button(t("Keep the active recipe"), on_click=window.close).props("no-caps")
            button = ui.button(t("Activate anyway"), on_click=page.handler("engineer", activate_anyway))
            button.props("no-caps outline color=negative")
            button.bind_enabled_from(comment, "value", lambda text: bool(text.strip()))
