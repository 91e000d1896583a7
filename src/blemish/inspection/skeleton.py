"""The skeleton of a region, one pixel wide, and the longest path along it."""

import heapq
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask, Points

_STEPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def thin(mask: Mask) -> Mask:
    """Skeleton (h, w) of a mask, one pixel wide and with the mask's connectivity (Guo & Hall 1989)."""
    image: NDArray[Any] = np.pad(mask, 1).view(np.uint8)
    tables = _removable()
    while True:
        changed = False
        for table in tables:
            code = cv2.filter2D(image, -1, _CODE, borderType=cv2.BORDER_CONSTANT)
            remove = cv2.bitwise_and(cv2.LUT(code, table), image)
            if cv2.countNonZero(remove):
                image = cv2.subtract(image, remove)
                changed = True
        if not changed:
            return np.asarray(image[1:-1, 1:-1] > 0)


def longest_path(skeleton: Mask) -> tuple[Points, float, float]:
    """The longest of the shortest paths between two skeleton pixels, its length, and the length of the whole skeleton.

    The path is points (n, 2) x y. A step along an axis has length 1, a diagonal one the square root of 2.
    """
    ys, xs = np.nonzero(skeleton)
    nodes = {(int(y), int(x)): i for i, (y, x) in enumerate(zip(ys, xs, strict=True))}
    neighbours = [_neighbours(nodes, y, x) for y, x in nodes]
    total = sum(step for found in neighbours for _, step in found) / 2
    far, _, _ = _farthest(neighbours, 0)
    end, distance, before = _farthest(neighbours, far)
    path = [end]
    while path[-1] != far:
        path.append(before[path[-1]])
    return np.stack([xs[path], ys[path]], axis=1).astype(np.float64), distance, max(total, distance)


def _neighbours(nodes: dict[tuple[int, int], int], y: int, x: int) -> list[tuple[int, float]]:
    """Adjacent pixels; a diagonal one only where no axis step leads to it, so that corners are not counted twice."""
    found = []
    for dy, dx in _STEPS:
        other = nodes.get((y + dy, x + dx))
        if other is None:
            continue
        if dy and dx and ((y + dy, x) in nodes or (y, x + dx) in nodes):
            continue
        found.append((other, 2**0.5 if dy and dx else 1.0))
    return found


def _farthest(neighbours: list[list[tuple[int, float]]], start: int) -> tuple[int, float, dict[int, int]]:
    """The node farthest from the start, its distance, and each node's predecessor (Dijkstra)."""
    distance = {start: 0.0}
    before: dict[int, int] = {}
    queue = [(0.0, start)]
    done: set[int] = set()
    last = start
    while queue:
        reached, node = heapq.heappop(queue)
        if node in done:
            continue
        done.add(node)
        last = node
        for other, step in neighbours[node]:
            new = reached + step
            if new < distance.get(other, float("inf")):
                distance[other] = new
                before[other] = node
                heapq.heappush(queue, (new, other))
    return last, distance[last], before


# Neighbours clockwise from above, as bits; filter2D correlates, so a weight is where its neighbour is.
_CODE = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)


@cache
def _removable() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Lookup tables of the two passes of an iteration: 1 for those of the 256 neighbourhoods that remove the pixel."""
    first, second = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    for code in range(256):
        n, ne, e, se, s, sw, w, nw = (bool(code >> i & 1) for i in range(8))
        arms = (not n and (ne or e)) + (not e and (se or s)) + (not s and (sw or w)) + (not w and (nw or n))
        pairs = min((nw or n) + (ne or e) + (se or s) + (sw or w), (n or ne) + (e or se) + (s or sw) + (w or nw))
        if arms == 1 and 2 <= pairs <= 3:
            first[code] = not ((s or sw or not nw) and w)
            second[code] = not ((n or ne or not se) and e)
    return first, second
