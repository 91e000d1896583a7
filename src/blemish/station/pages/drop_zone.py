"""A place on a page where image files are dropped."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.element import Element

from blemish.station.pages.session import PageSession
from blemish.station.pages.widgets import div


class DropZone(Element, component="drop_zone.js"):
    """`on_upload` gets each file as NiceGUI's upload does; files above `max_bytes` are refused on the page.

    NiceGUI's own upload has no names for screen readers; it stays out of sight and only receives.
    """

    def __init__(
        self, page: PageSession, text: str, max_bytes: int, on_upload: Callable[[Any], Awaitable[None]]
    ) -> None:
        with div("").style("display: none"):
            receiver = ui.upload(on_upload=on_upload, max_file_size=max_bytes)
        super().__init__()
        self._props.update({"address": receiver.props["url"], "text": text, "limit": max_bytes})
        self.on("refused", lambda event: page.notify_error(page.t("{name} was not taken.", name=event.args)))
