"""Tiles of an image larger than the network's view, and one map of the whole from the tiles' maps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, PixelBox


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Start positions of tiles along an axis: every pixel covered, neighbours overlap by at least that share of a tile.

    The last tile is shifted inwards to end with the axis; an axis shorter than a tile has one, of its own length.
    """
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    return [*range(0, length - tile, step), length - tile]


def tile_boxes(height: int, width: int, tile_height: int, tile_width: int, overlap: float) -> list[PixelBox]:
    """The tiles of an image, row by row."""
    rows, columns = min(tile_height, height), min(tile_width, width)
    return [
        (x, y, x + columns, y + rows)
        for y in tile_starts(height, tile_height, overlap)
        for x in tile_starts(width, tile_width, overlap)
    ]


class MapStitcher:
    """Adds up tiles' maps into one map (..., height, width), blended where tiles overlap.

    Each tile weighs most in its middle and fades linearly towards its borders. Tiles form a grid, so their weights are
    products of one vector for the rows and one for the columns, which are made to add up to 1 beforehand: no second
    map of weights is needed.
    """

    def __init__(
        self, height: int, width: int, tile_height: int, tile_width: int, overlap: float, leading: tuple[int, ...] = ()
    ) -> None:
        self.total = np.zeros((*leading, height, width), np.float32)
        self._rows = _tile_weights(height, tile_height, overlap)
        self._columns = _tile_weights(width, tile_width, overlap)

    def add(self, box: PixelBox, values: NDArray[Any]) -> None:
        """Add the map (..., y1 - y0, x1 - x0) of one of the tiles of `tile_boxes`."""
        x0, y0, x1, y1 = box
        weights = np.outer(self._rows[y0], self._columns[x0])
        self.total[..., y0:y1, x0:x1] += values * weights

    def result(self) -> FloatMap:
        """The map; 0 where no tile was added."""
        return self.total


def _tile_weights(length: int, tile: int, overlap: float) -> dict[int, FloatMap]:
    """By start, the weights of a tile's pixels along one axis; those of all tiles add up to 1 at every pixel."""
    tile = min(tile, length)
    starts = tile_starts(length, tile, overlap)
    position = np.arange(tile) + 0.5
    fade = np.minimum(position, tile - position)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += fade
    return {start: (fade / total[start : start + tile]).astype(np.float32) for start in starts}
