"""The element on which masks are drawn."""

import base64
import binascii
from collections.abc import Callable
from typing import Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from blemish.errors import DataError

Tool = Literal["brush", "erase", "polygon"]
SIDE = 2048  # px of the longer side, beyond which a mask is drawn on a smaller picture


class MaskEditor(Element, component="mask_editor.js"):
    """A picture of an inspection with its heat map and an editable mask."""

    def __init__(self, inspection_id: int, heat: bool, on_change: Callable[[bool], None]) -> None:
        super().__init__()
        path = f"/inspections/{inspection_id}"
        self._props["source"] = f"{path}/picture?side={SIDE}"
        self._props["mask"] = f"{path}/mask?side={SIDE}"
        self._props["heat"] = f"{path}/heat?side=1024&colours=true" if heat else ""
        self._props.update({"tool": "brush", "size": 12, "heatShown": False, "maskShown": True})
        self.on("changed", lambda event: on_change(_first(event)))

    def set(self, name: Literal["tool", "size", "heatShown", "maskShown"], value: Tool | float | bool) -> None:
        self._props[name] = value
        self.update()

    def get(self, name: Literal["tool", "size", "heatShown", "maskShown"]) -> Tool | float | bool:
        found: Tool | float | bool = self._props[name]
        return found

    async def drawn(self) -> bytes | None:
        """The mask as PNG, at most `SIDE` long, or None where nothing was changed."""
        text = await self.run_method("png", timeout=20)
        if text is None:
            return None
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise DataError("the drawn mask did not arrive") from error


def _first(event: GenericEventArguments) -> bool:
    return bool(event.args)
