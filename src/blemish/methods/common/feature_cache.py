"""Features of a frozen network, computed once for each training image that is not changed at random."""

from collections.abc import Callable

import torch
from torch import Tensor

UNKNOWN = -1  # the number of an image that was changed


class FeatureCache:
    """Feature maps (C, h, w) of several scales by the number of their image, as long as they fit into `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes
        self._kept: dict[int, list[Tensor]] = {}

    def compute(self, network: Callable[[Tensor], list[Tensor]], images: Tensor, numbers: Tensor) -> list[Tensor]:
        """The network's maps of images (N, C, H, W) whose numbers are (N,): kept ones, or computed ones."""
        keys = numbers.tolist()
        missing = [row for row, key in enumerate(keys) if key not in self._kept]
        if not missing:
            return self._stack([self._kept[key] for key in keys])
        whole = len(missing) == len(keys)
        computed = network(images if whole else images[missing])
        # Channels last, as the network gives them in training: the maps of one image are then one piece of memory.
        fresh = {row: [maps[i].permute(1, 2, 0) for maps in computed] for i, row in enumerate(missing)}
        for row, maps in fresh.items():
            self._keep(keys[row], maps)
        if whole:
            return computed
        return self._stack([fresh[row] if row in fresh else self._kept[key] for row, key in enumerate(keys)])

    def _keep(self, key: int, maps: list[Tensor]) -> None:
        size = sum(m.numel() * m.element_size() for m in maps)
        if key == UNKNOWN or key in self._kept or size > self.left:
            return
        self.left -= size
        self._kept[key] = [m.clone(memory_format=torch.contiguous_format) for m in maps]

    @staticmethod
    def _stack(items: list[list[Tensor]]) -> list[Tensor]:
        """Maps (N, C, h, w), channels last in memory, of each image's maps (h, w, C)."""
        return [torch.stack(maps).permute(0, 3, 1, 2) for maps in zip(*items, strict=True)]
