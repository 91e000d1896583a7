"""The element on which masks are painted."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from nicegui.element import Element

from blemish.arrays import ClassMap
from blemish.errors import DataError

Tool = Literal["brush", "erase", "polygon", "box", "point", "class", "move"]
SIDE = 4096  # px of the longer side; the mask of a larger image is painted on a smaller picture


class MaskEditor(Element, component="mask_editor.js"):
    """A picture with an editable mask and, perhaps, a heat map; each by its address.

    The pixels have classes, at first those of the map `start`: class k is shown in the k-th of the `colours`, over
    and over, and what is painted gets the property `index` as its class, or `NO_CLASS` while that is 0. Without
    `start`, the white pixels of `mask` are those of `NO_CLASS`. The tools "box", "point" and "class" paint nothing:
    they emit what was drawn, as shares of the sides.
    """

    def __init__(
        self, source: str, mask: str = "", heat: str = "", start: ClassMap | None = None, colours: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._props.update({"source": source, "mask": mask, "heat": heat, "colours": [*colours], "index": 0})
        self._props["start"] = None if start is None else _pack(start)
        self._props.update({"tool": "brush", "size": 12, "heatShown": False, "maskShown": True, "proposal": ""})

    @classmethod
    def of_inspection(cls, inspection_id: int, heat: bool) -> "MaskEditor":
        path = f"/v1/inspections/{inspection_id}"
        heat_map = f"{path}/heatmap?side=1024&colour=true" if heat else ""
        return cls(f"{path}/preview?side={SIDE}", f"{path}/mask?side={SIDE}", heat_map)

    def set(
        self, name: Literal["tool", "size", "heatShown", "maskShown", "index", "proposal"], value: str | float | bool
    ) -> None:
        self._props[name] = value
        self.update()

    def get(self, name: Literal["tool", "size", "heatShown", "maskShown", "proposal"]) -> str | float | bool:
        found: str | float | bool = self._props[name]
        return found

    async def painted(self) -> ClassMap | None:
        """The class of each shown pixel, its sides at most `SIDE` px, or None where all are as they were at first."""
        answer = await self.run_method("painted", timeout=20)
        return None if answer is None else _unpack(answer)

    async def finish(self) -> None:
        """Close the polygon that is open, before what is painted is saved; DataError for one of fewer than 3 points."""
        if not await self.run_method("finish", timeout=20):
            raise DataError("the open polygon needs at least 3 points: add more, or take them back (Z)")

    async def add(self, found: ClassMap, over: bool = False) -> None:
        """Add pixels with their classes; with `over` they replace the classes of those that are painted."""
        if not await self.run_method("add", _pack(found), over, timeout=20):
            raise DataError("the picture has not arrived yet; try again")


def _pack(classes_of: ClassMap) -> dict[str, Any]:
    height, width = classes_of.shape
    data = base64.b64encode(zlib.compress(classes_of.tobytes(), 1)).decode()
    return {"data": data, "width": width, "height": height}


def _unpack(answer: Any) -> ClassMap:
    """DataError for anything that is no map of at most `SIDE` x `SIDE` pixels."""
    try:
        height, width = int(answer["height"]), int(answer["width"])
        if not 0 < min(height, width) <= max(height, width) <= SIDE:
            raise ValueError(height, width)
        content = zlib.decompressobj().decompress(base64.b64decode(answer["data"], validate=True), height * width + 1)
        return np.frombuffer(content, np.uint8).reshape(height, width)
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError) as error:
        raise DataError("the painted mask did not arrive") from error
