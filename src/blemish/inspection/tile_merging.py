"""Merge per-tile boxes: a defect split by a tile border becomes one box."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from blemish.arrays import Boxes, Flags, FloatArray, Labels, PixelBox
from blemish.geometry import box_areas, box_intersections

_SAME_OVERLAP = 0.5  # two boxes are one defect if they share more than this of the smaller one where both tiles see
_SIMILAR_SCORE = 0.5  # of the best score: a box that scores less does not belong to that defect
_CUT_MARGIN = 0.02  # of a tile's side: a box that ends so close to a tile border goes on beyond it


@dataclass(slots=True)
class DetectedBoxes:
    """Boxes (M, 4) x0 y0 x1 y1, their scores (M,), indices of defect classes (M,) and masks (M, h, w) inside them."""

    corners: Boxes
    scores: FloatArray
    labels: Labels
    masks: FloatArray | None = None

    def __getitem__(self, keep: Any) -> "DetectedBoxes":
        masks = None if self.masks is None else self.masks[keep]
        return DetectedBoxes(self.corners[keep], self.scores[keep], self.labels[keep], masks)


def merge_tile_detections(by_tile: Sequence[DetectedBoxes], tiles: Sequence[PixelBox], area: PixelBox) -> DetectedBoxes:
    """The detections of an image, best first, from those of each of its tiles, all in pixels of the image.

    `area` is what the tiles cover. Of a defect that one tile sees whole, the best such box is kept. A defect that every
    tile cuts gets the box around all its pieces. Boxes of the same tile are never merged: the model has separated them.
    """
    boxes = _concatenate(by_tile)
    cut = np.concatenate([_is_cut(one.corners, tile, area) for one, tile in zip(by_tile, tiles, strict=True)])
    links = _link(by_tile, tiles)
    used = np.zeros(len(cut), bool)
    merged: list[DetectedBoxes] = []
    for leader in np.argsort(-boxes.scores, kind="stable").tolist():
        if used[leader]:
            continue
        used[leader] = True
        members = [leader]
        for member in members:  # grows in the loop
            near = [
                n for n in links[member] if not used[n] and boxes.scores[n] >= _SIMILAR_SCORE * boxes.scores[leader]
            ]
            used[near] = True
            members += near
        merged.append(_merge(boxes, members, cut))
        # Boxes that the merged one covers are the same defect; any others stay candidates of their own.
        used[members[1:]] = False
        others = np.array([*members[1:], *(n for member in members for n in links[member])], np.intp)
        shared = box_intersections(merged[-1].corners, boxes.corners[others])[0]
        used[others[shared > _SAME_OVERLAP * box_areas(boxes.corners[others])]] = True
        used[leader] = True
    return _concatenate(merged) if merged else boxes


def _link(by_tile: Sequence[DetectedBoxes], tiles: Sequence[PixelBox]) -> defaultdict[int, list[int]]:
    """For each box, counted over all tiles, the boxes of other tiles that are the same defect where both tiles see."""
    first = np.cumsum([0, *(len(one.scores) for one in by_tile)])
    links: defaultdict[int, list[int]] = defaultdict(list)
    # A pixel more on all sides, so that tiles without an overlap meet as well.
    grown = np.array(tiles) + np.array([-1, -1, 1, 1])
    filled = np.array([len(one.scores) > 0 for one in by_tile])
    meeting = np.triu(box_intersections(grown, grown) > 0, 1) & filled & filled[:, None]
    for a, b in np.argwhere(meeting).tolist():
        zone = np.concatenate([np.maximum(grown[a], grown[b])[:2], np.minimum(grown[a], grown[b])[2:]])
        clipped = [_clip(by_tile[k].corners + np.array([-1, -1, 1, 1]), zone) for k in (a, b)]
        smaller = np.minimum.outer(box_areas(clipped[0]), box_areas(clipped[1]))
        same = by_tile[a].labels[:, None] == by_tile[b].labels
        same &= box_intersections(clipped[0], clipped[1]) > _SAME_OVERLAP * smaller
        for i, j in np.argwhere(same).tolist():
            links[int(first[a]) + i].append(int(first[b]) + j)
            links[int(first[b]) + j].append(int(first[a]) + i)
    return links


def _merge(boxes: DetectedBoxes, members: list[int], cut: Flags) -> DetectedBoxes:
    """One box with the first member's score: the first uncut member that covers most of that one, or the box around
    all members."""
    leader = boxes.corners[members[:1]]
    covers = box_intersections(leader, boxes.corners[members])[0] > _SAME_OVERLAP * box_areas(leader)
    whole = [member for member, most in zip(members, covers, strict=True) if most and not cut[member]]
    merged = boxes[[whole[0] if whole else members[0]]]
    if not whole and len(members) > 1:
        corners = boxes.corners[members]
        merged.corners = np.hstack([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])[None]
        if boxes.masks is not None:
            masks = [_resample(boxes.masks[m], boxes.corners[m], merged.corners[0]) for m in members]
            merged.masks = np.max(masks, axis=0)[None]
    merged.scores = boxes.scores[members[:1]]
    return merged


def _resample(mask: FloatArray, corners: Boxes, target: Boxes) -> FloatArray:
    """The mask (h, w) of a box (4,) as one of the same shape that fills a larger box (4,)."""
    height, width = mask.shape
    sides, wanted = corners[2:] - corners[:2], target[2:] - target[:2]
    x = (target[0] + (np.arange(width) + 0.5) / width * wanted[0] - corners[0]) / sides[0] * width - 0.5
    y = (target[1] + (np.arange(height) + 0.5) / height * wanted[1] - corners[1]) / sides[1] * height - 0.5
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return np.asarray(cv2.remap(mask, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _is_cut(corners: Boxes, tile: PixelBox, area: PixelBox) -> Flags:
    """Which boxes (M, 4) reach a border of their tile beyond which there is another tile."""
    sides = np.array([tile[2] - tile[0], tile[3] - tile[1]] * 2)
    inner = np.array(tile) != np.array(area)
    return np.asarray(((np.abs(corners - np.array(tile)) <= np.maximum(_CUT_MARGIN * sides, 1)) & inner).any(axis=1))


def _clip(corners: Boxes, zone: Boxes) -> Boxes:
    return np.hstack([np.maximum(corners[:, :2], zone[:2]), np.minimum(corners[:, 2:], zone[2:])])


def _concatenate(several: Sequence[DetectedBoxes]) -> DetectedBoxes:
    masks = [one.masks for one in several if one.masks is not None]
    return DetectedBoxes(
        np.concatenate([one.corners for one in several]),
        np.concatenate([one.scores for one in several]),
        np.concatenate([one.labels for one in several]),
        np.concatenate(masks) if masks else None,
    )
