"""Prepared items of a training, kept after their first use: images are decoded, cropped and resized once.

They lie in a file without a name that is mapped into memory, so that the loader's processes share them and the system
may put them on disk; values whose size differs from item to item, such as boxes, stay in each process.
"""

import logging
import os
import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blemish.methods.base import Item
from blemish.synthesis.scene import PartMask

log = logging.getLogger(__name__)
LOOSE_PART = 4  # a quarter of the memory is for values whose size differs, where there are any
_FILLED = "filled"


class ItemCache:
    """The first items of a list, as many as fit into `max_bytes`; the layout is that of one of them."""

    def __init__(self, example: Item, count: int, max_bytes: int) -> None:
        fixed, loose = _split(example)
        fields = [(name, *_layout(value)) for name, value in fixed.items()]
        layout = np.dtype([*fields, (_FILLED, np.bool_, ())])
        self._loose_left = max_bytes // LOOSE_PART if loose else 0  # how many boxes there are is not known yet
        self.rows = int(min(count, (max_bytes - self._loose_left) // layout.itemsize))
        self.bytes = self.rows * layout.itemsize + self._loose_left
        self._kinds = {name: type(value) for name, value in fixed.items()}
        self._loose: dict[int, dict[str, Tensor]] = {}
        self._has_loose = bool(loose)
        self._file: Any = None
        if self.rows:
            try:
                self._file = _map_file(layout, self.rows)
            except OSError as error:
                log.warning(f"prepared images are not kept: {tempfile.gettempdir()}: {error.strerror}")
                self.rows = self.bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """A loader's process that is not a fork has a cache of nothing."""
        return {**self.__dict__, "rows": 0, "_file": None, "_loose": {}}

    def get(self, index: int) -> Item | None:
        """A copy of an item; None where it is not held."""
        if index >= self.rows or not self._file[index][_FILLED]:
            return None
        loose = self._loose.get(index, {})
        if self._has_loose and not loose:  # another process has them
            return None
        row = self._file[index]
        fixed = {name: _restored(row[name], kind) for name, kind in self._kinds.items()}
        return _joined(fixed | {name: value.clone() for name, value in loose.items()})

    def put(self, index: int, item: Item) -> None:
        if index >= self.rows:
            return
        fixed, loose = _split(item)
        size = sum(map(_bytes, loose.values()))
        if size > self._loose_left or {name: type(value) for name, value in fixed.items()} != self._kinds:
            return
        row = self._file[index]
        if any(np.shape(value) != row[name].shape for name, value in fixed.items()):
            return
        for name, value in fixed.items():
            row[name] = value.numpy() if isinstance(value, Tensor) else value
        self._loose_left -= size
        if loose:
            self._loose[index] = {name: value.clone() for name, value in loose.items()}
        row[_FILLED] = True


def _map_file(layout: np.dtype[Any], rows: int) -> Any:
    """A file without a name as an array; OSError where there is no room for it, which later would end the process."""
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, rows * layout.itemsize)
        return np.memmap(file, layout, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=(rows,))


def _split(item: Item) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Values of one size in all items, and those whose size differs (see RAGGED of the loader)."""
    fixed: dict[str, Any] = {}
    loose: dict[str, Tensor] = {}
    for name, value in item.items():
        if isinstance(value, PartMask):
            fixed["part.mask"] = value.mask
            fixed["part.extent"] = np.float64(np.nan if value.extent is None else value.extent)
        elif name in ("boxes", "box_masks"):
            loose[name] = value
        else:
            fixed[name] = value
    return fixed, loose


def _joined(item: Item) -> Item:
    if "part.mask" in item:
        extent = float(item.pop("part.extent"))
        item["part"] = PartMask(item.pop("part.mask"), None if np.isnan(extent) else extent)
    return item


def _layout(value: Any) -> tuple[Any, tuple[int, ...]]:
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array.dtype, array.shape


def _restored(value: Any, kind: type) -> Any:
    if kind is torch.Tensor:
        return torch.from_numpy(np.array(value))
    return np.array(value) if kind is np.ndarray else kind(value)


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()
