"""Painting that is not saved is lost only where the person says so.

It is not saved by itself: a label is what a person states of an image, and a half-painted one states something false.
The browser asks by itself, by `beforeunload` in mask_editor.js, before the page is closed or replaced by another.
"""

from nicegui import ui

from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import dialog, div, hint

UNSAVED = "return window.unsavedPainting ? window.unsavedPainting() : false"


async def may_leave(page: PageSession) -> bool:
    """Whether nothing unsaved is painted on the page, or the person gives it up; False while that is asked already."""
    if page.asking:
        return False
    page.asking = True
    try:
        return not await ui.run_javascript(UNSAVED, timeout=20) or await _ask(page)
    finally:
        page.asking = False


async def _ask(page: PageSession) -> bool:
    t = page.t
    with dialog(t("What you painted is not saved.")) as window:
        hint(t("Save it first, or leave the image and lose what was painted on it."))
        with div("bar"):
            stay = ui.button(t("Keep painting"), on_click=lambda: window.submit(False))
            # The focused button takes the keys, which else are those of the page: Enter saves, S skips.
            stay.props("no-caps autofocus data-name=keep-painting")
            discard = ui.button(t("Leave without saving"), on_click=lambda: window.submit(True))
            discard.props("no-caps outline color=negative data-name=discard")
    leaves = bool(await window)
    window.delete()
    return leaves
