"""Thresholds of a recipe of several views: those of each view, and the rules over all."""

from nicegui import ui
from sqlalchemy.orm import Session

from blemish.imaging.roi import Roi
from blemish.inspection.manifest import Decision
from blemish.station.auth import User
from blemish.station.models import RecipeRow
from blemish.station.pages.session import PageSession
from blemish.station.pages.version_bar import version_bar
from blemish.station.pages.widgets import div, hint, panel
from blemish.station.recipe_changes import check_active
from blemish.station.recipe_views import RecipeViews
from blemish.station.recipes import recipe_title, revise, view_decisions


class ViewThresholds:
    """The record keeps one score and one verdict a part, so no effect on earlier parts can be shown: only the golden
    set, which is inspected again at activation, tells."""

    def __init__(self, page: PageSession, recipe: RecipeRow, views: RecipeViews) -> None:
        self.page, self.recipe, self.views = page, recipe, views

    async def build(self) -> None:
        t, editable = self.page.t, self.page.may("engineer")
        self.decisions = await self.page.read(_load_decisions, self.recipe.id)
        self.fields: dict[str, tuple[ui.number, ui.number]] = {}
        with panel(t("Thresholds of the views")):
            hint(
                t(
                    "Parts have one score and one verdict for all views. What other thresholds would change is told by "
                    "the golden set, which is inspected again when the recipe is activated."
                )
            )
            for name, decision in self.decisions.items():
                with div("bar").props(f"data-name=view-{name}"):
                    ui.label(name).style("font-weight: 600; min-width: 120px")
                    review = ui.number(t("review threshold"), value=decision.review, format="%.5g")
                    reject = ui.number(t("reject threshold"), value=decision.reject, format="%.5g")
                    for field, kind in ((review, "review"), (reject, "reject")):
                        field.props(f"dense outlined data-name={kind}-{name}").style("width: 150px")
                        field.set_enabled(editable)
                    self.fields[name] = review, reject
            self.rules = ui.textarea(t("Rules over the regions of all views, one a line"))
            self.rules.set_value("\n".join(self.views.rules))
            self.rules.props("outlined autogrow data-name=view-rules").style("width: 100%").set_enabled(editable)
        if editable:
            version_bar(self.page, t("Why are the thresholds changed?"), self._save, recipe_title(self.recipe))

    async def _save(self, user: User, reason: str) -> RecipeRow:
        decisions = {
            name: self.decisions[name].model_copy(update={"review": review.value, "reject": reject.value})
            for name, (review, reject) in self.fields.items()
        }
        rules = [line.strip() for line in (self.rules.value or "").splitlines() if line.strip()]
        based_on = recipe_title(self.recipe)
        return await self.page.write(_revise, based_on, decisions, rules, user.name, reason)


def _load_decisions(session: Session, recipe_id: int) -> dict[str, Decision]:
    return view_decisions(session, session.get_one(RecipeRow, recipe_id))


def _revise(
    session: Session, based_on: str, decisions: dict[str, Decision], rules: list[str], user: str, comment: str
) -> RecipeRow:
    """A view whose thresholds are as they were keeps what it has, such as those of its bundle."""
    recipe = check_active(session, based_on)
    before, views = view_decisions(session, recipe), RecipeViews.model_validate(recipe.views)
    others = {
        name: own if decisions[name] == before[name] else own.model_copy(update={"decision": decisions[name]})
        for name, own in views.others.items()
    }
    changed = views.model_copy(update={"others": others, "rules": rules})
    roi = None if recipe.roi is None else Roi.model_validate(recipe.roi)
    return revise(session, recipe, decisions[views.first], roi, user, comment, views=changed)
