"""Boxes of tiles as boxes of the image: a defect on a seam, seen from both of its sides, is one."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap
from blemish.geometry import box_areas, box_intersections

Area = tuple[int, int, int, int]  # x0 y0 x1 y1, x1 and y1 exclusive
Corners = NDArray[np.float64]
_SAME = 0.5  # two boxes that share more than this of the smaller one, where both tiles look, are one defect
_SIMILAR = 0.5  # of the best score: what scores less is no part of that defect
_CUT = 0.02  # of a tile's side: a box that comes so near to a seam goes on beyond it


@dataclass(slots=True)
class Boxes:
    """Boxes (M, 4) in pixels of the image, their scores (M,), indices of defect classes (M,) and masks (M, h, w)."""

    corners: Corners
    scores: FloatMap
    labels: NDArray[np.int64]
    masks: FloatMap | None = None

    def __getitem__(self, keep: Any) -> "Boxes":
        masks = None if self.masks is None else self.masks[keep]
        return Boxes(self.corners[keep], self.scores[keep], self.labels[keep], masks)


def across_seams(parts: list[Boxes], tiles: list[Area], area: Area) -> Boxes:
    """The boxes of the image, best first, from those of each of its tiles; `area` is what the tiles cover.

    Of a defect that a tile sees whole, the best such box stays. Of one that every tile cuts, the box is that about all
    pieces. Boxes of one tile are left alone: they have been told apart there.
    """
    boxes = _joined(parts)
    cut = np.concatenate([_cut(part.corners, tile, area) for part, tile in zip(parts, tiles, strict=True)])
    links = _links(parts, tiles)
    gone = np.zeros(len(cut), bool)
    found: list[Boxes] = []
    for leader in np.argsort(-boxes.scores, kind="stable").tolist():
        if gone[leader]:
            continue
        gone[leader] = True
        members = [leader]
        for member in members:  # grows on the way
            near = [n for n in links[member] if not gone[n] and boxes.scores[n] >= _SIMILAR * boxes.scores[leader]]
            gone[near] = True
            members += near
        found.append(_merged(boxes, members, cut))
        # What it covers has found the same; what it leaves out is told of by itself.
        gone[members[1:]] = False
        beside = np.array([*members[1:], *(n for member in members for n in links[member])], np.intp)
        covered = box_intersections(found[-1].corners, boxes.corners[beside])[0] > _SAME * box_areas(
            boxes.corners[beside]
        )
        gone[beside[covered]] = True
        gone[leader] = True
    return _joined(found) if found else boxes


def _links(parts: list[Boxes], tiles: list[Area]) -> defaultdict[int, list[int]]:
    """Which boxes, counted over all parts, are one defect as far as two tiles see the same."""
    first = np.cumsum([0, *(len(part.scores) for part in parts)])
    links: defaultdict[int, list[int]] = defaultdict(list)
    # A pixel more on all sides, so that tiles without an overlap meet as well.
    grown = np.array(tiles) + np.array([-1, -1, 1, 1])
    filled = np.array([len(part.scores) > 0 for part in parts])
    meeting = np.triu(box_intersections(grown, grown) > 0, 1) & filled & filled[:, None]
    for a, b in np.argwhere(meeting).tolist():
        zone = np.concatenate([np.maximum(grown[a], grown[b])[:2], np.minimum(grown[a], grown[b])[2:]])
        seen = [_inside(parts[k].corners + np.array([-1, -1, 1, 1]), zone) for k in (a, b)]
        small = np.minimum.outer(box_areas(seen[0]), box_areas(seen[1]))
        same = parts[a].labels[:, None] == parts[b].labels
        same &= box_intersections(seen[0], seen[1]) > _SAME * small
        for i, j in np.argwhere(same).tolist():
            links[int(first[a]) + i].append(int(first[b]) + j)
            links[int(first[b]) + j].append(int(first[a]) + i)
    return links


def _merged(boxes: Boxes, members: list[int], cut: NDArray[np.bool_]) -> Boxes:
    """One box, with the first member's score: the first that is whole and no part of that one, or that about all."""
    leader = boxes.corners[members[:1]]
    holds = box_intersections(leader, boxes.corners[members])[0] > _SAME * box_areas(leader)
    whole = [member for member, most in zip(members, holds, strict=True) if most and not cut[member]]
    found = boxes[[whole[0] if whole else members[0]]]
    if not whole and len(members) > 1:
        corners = boxes.corners[members]
        found.corners = np.hstack([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])[None]
        if boxes.masks is not None:
            laid = [_laid_into(boxes.masks[m], boxes.corners[m], found.corners[0]) for m in members]
            found.masks = np.max(laid, axis=0)[None]
    found.scores = boxes.scores[members[:1]]
    return found


def _laid_into(mask: FloatMap, corners: Corners, target: Corners) -> FloatMap:
    """A box's mask (h, w) as one of the same size inside a larger box."""
    height, width = mask.shape
    sides, wanted = corners[2:] - corners[:2], target[2:] - target[:2]
    x = (target[0] + (np.arange(width) + 0.5) / width * wanted[0] - corners[0]) / sides[0] * width - 0.5
    y = (target[1] + (np.arange(height) + 0.5) / height * wanted[1] - corners[1]) / sides[1] * height - 0.5
    across, down = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return np.asarray(cv2.remap(mask, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _cut(corners: Corners, tile: Area, area: Area) -> NDArray[np.bool_]:
    """Which boxes (M, 4) reach a side of their tile beyond which there is another one."""
    sides = np.array([tile[2] - tile[0], tile[3] - tile[1]] * 2)
    inner = np.array(tile) != np.array(area)
    return np.asarray(((np.abs(corners - np.array(tile)) <= np.maximum(_CUT * sides, 1)) & inner).any(axis=1))


def _inside(corners: Corners, zone: NDArray[Any]) -> Corners:
    return np.hstack([np.maximum(corners[:, :2], zone[:2]), np.minimum(corners[:, 2:], zone[2:])])


def _joined(parts: list[Boxes]) -> Boxes:
    masks = [part.masks for part in parts if part.masks is not None]
    return Boxes(
        np.concatenate([part.corners for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(masks) if masks else None,
    )
