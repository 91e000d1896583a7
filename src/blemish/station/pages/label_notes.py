"""What was said of an image that is labelled, and what the label book says of its classes."""

from nicegui import ui

from blemish.station.pages.label_state import LabellingState
from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import hint, panel


def show_notes(page: PageSession, state: LabellingState, image: str) -> None:
    t, given = page.t, state.project.journal.of_image(image)
    rules = {rule.name: rule for rule in state.project.book}
    with panel(t("Labels of this image")):
        if state.independent:
            hint(t("What others said is hidden."))
        for label in given.values():
            if label.person == state.person or not state.independent:
                names = ", ".join(map(t, label.labels)) or t("no label")
                hint(f"{label.time.astimezone():%Y-%m-%d %H:%M} {label.person}: {names} {label.note}")
        hint(f"{t('Evidence')}: {t(str(state.sample(image).evidence or 'none'))}")
    if rules:
        with panel(t("Label book")):
            for rule in rules.values():
                ui.label(t(rule.name)).style("font-weight: 600")
                for text in filter(None, (rule.rule, rule.borderline and f"{t('borderline')}: {rule.borderline}")):
                    hint(text)
