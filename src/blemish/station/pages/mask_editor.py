"""The element on which masks are painted."""

import base64
import binascii
from typing import Literal

from nicegui.element import Element

from blemish.errors import DataError

Tool = Literal["brush", "erase", "polygon", "box", "point", "class", "move"]
SIDE = 4096  # px of the longer side; the mask of a larger image is painted on a smaller picture


class MaskEditor(Element, component="mask_editor.js"):
    """A picture with an editable mask and, perhaps, a heat map; each by its address.

    With `coloured` the mask's colours are shown as they are, and new strokes have the property `colour`; otherwise it
    is white on black. The tools "box", "point" and "class" paint nothing: they emit what was drawn,
    as shares of the sides.
    """

    def __init__(self, source: str, mask: str, heat: str = "", coloured: bool = False) -> None:
        super().__init__()
        self._props.update({"source": source, "mask": mask, "heat": heat, "coloured": coloured, "colour": "#e11d48"})
        self._props.update({"tool": "brush", "size": 12, "heatShown": False, "maskShown": True, "proposal": ""})

    @classmethod
    def of_inspection(cls, inspection_id: int, heat: bool) -> "MaskEditor":
        path = f"/v1/inspections/{inspection_id}"
        heat_map = f"{path}/heatmap?side=1024&colour=true" if heat else ""
        return cls(f"{path}/preview?side={SIDE}", f"{path}/mask?side={SIDE}", heat_map)

    def set(
        self, name: Literal["tool", "size", "heatShown", "maskShown", "colour", "proposal"], value: str | float | bool
    ) -> None:
        self._props[name] = value
        self.update()

    def get(self, name: Literal["tool", "size", "heatShown", "maskShown", "proposal"]) -> str | float | bool:
        found: str | float | bool = self._props[name]
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
