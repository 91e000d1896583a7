"""A picture that can be zoomed and moved."""

from nicegui.element import Element


class ZoomImage(Element, component="zoom_image.js"):
    """`source` is an address or a data URI."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._props["source"] = source
