"""The element on which masks are painted."""

import base64
import binascii
from typing import Literal

from nicegui.element import Element

from blemish.errors import DataError

Tool = Literal["brush", "erase", "polygon", "move"]
SIDE = 4096  # px of the longer side; the mask of a larger image is painted on a smaller picture


class MaskEditor(Element, component="mask_editor.js"):
    """The image of an inspection with its heat map and an editable mask."""

    def __init__(self, inspection_id: int, heat: bool) -> None:
        super().__init__()
        path = f"/v1/inspections/{inspection_id}"
        self._props["source"] = f"{path}/preview?side={SIDE}"
        self._props["mask"] = f"{path}/mask?side={SIDE}"
        self._props["heat"] = f"{path}/heatmap?side=1024&colour=true" if heat else ""
        self._props.update({"tool": "brush", "size": 12, "heatShown": False, "maskShown": True})

    def set(self, name: Literal["tool", "size", "heatShown", "maskShown"], value: Tool | float | bool) -> None:
        self._props[name] = value
        self.update()

    def get(self, name: Literal["tool", "size", "heatShown", "maskShown"]) -> Tool | float | bool:
        found: Tool | float | bool = self._props[name]
        return found

    async def painted_mask(self) -> bytes | None:
        """The mask as PNG, its sides at most `SIDE` px, or None where nothing was changed."""
        text = await self.run_method("png", timeout=20)
        if text is None:
            return None
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise DataError("the painted mask did not arrive") from error
