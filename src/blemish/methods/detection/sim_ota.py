"""SimOTA: which places are to find which box, chosen anew at every step by what they find already."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.detection.boxes import pairwise_iou

RADIUS = 2.5  # in strides: places this near to a box's centre may find it, even from outside
CANDIDATES = 10  # a box is found by as many places as the overlaps of its best ten add up to
OVERLAP_WEIGHT = 3.0
FAR = 1e5  # cost of a place that is not both inside the box and near its centre


@dataclass(frozen=True)
class Assigned:
    """For the P places chosen of an image: their indices, the box (index) that each is to find, and its overlap now."""

    places: Tensor
    boxes: Tensor
    iou: Tensor


@torch.no_grad()
def assign(points: Tensor, strides: Tensor, boxes: Tensor, scores: Tensor, truth: Tensor) -> Assigned:
    """Ge et al. 2021 (YOLOX), section 2.1.

    `points` (K, 2) and `strides` (K,) of the places, their `boxes` (K, 4) and `scores` (K, C) as predicted now, and the
    `truth` (M, 5). Every true box that has a place near it is found by one at least.
    """
    inside, central = near(points, strides, truth[:, :4])
    usable = (inside | central).any(dim=0).nonzero().squeeze(1)
    if not len(truth) or not len(usable):
        none = torch.zeros(0, dtype=torch.int64, device=points.device)
        return Assigned(none, none, none.float())
    iou = pairwise_iou(truth[:, :4], boxes[usable])  # (M, U)
    wanted = F.one_hot(truth[:, 4].long(), scores.shape[1]).float()
    given = scores[usable].float().clamp(1e-6, 1 - 1e-6)
    # Of probabilities, not logits: written out, since mixed precision refuses torch's own.
    named = -(wanted @ given.log().T + (1 - wanted) @ (1 - given).log().T)
    both = (inside & central)[:, usable]
    cost = named - OVERLAP_WEIGHT * torch.log(iou + 1e-8) + FAR * ~both
    chosen = cheapest(cost, iou)
    finder = chosen.any(dim=0).nonzero().squeeze(1)
    box = chosen[:, finder].int().argmax(dim=0)
    return Assigned(usable[finder], box, iou[box, finder])


def near(points: Tensor, strides: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Which places (M, K) are inside each box, and which are near its centre."""
    x, y = points[None, :, 0], points[None, :, 1]
    inside = (x > boxes[:, None, 0]) & (y > boxes[:, None, 1]) & (x < boxes[:, None, 2]) & (y < boxes[:, None, 3])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (points[None] - centre[:, None]).abs().amax(dim=2)
    return inside, offset < RADIUS * strides[None]


def cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """Of costs and overlaps (M, U), each box's k cheapest places, k being its overlaps' sum; no place finds two."""
    best = iou.topk(min(CANDIDATES, iou.shape[1]), dim=1).values
    counts = best.sum(dim=1).int().clamp(min=1)
    rank = cost.argsort(dim=1).argsort(dim=1)
    chosen = rank < counts[:, None]
    shared = chosen.sum(dim=0) > 1
    cheapest_box = F.one_hot(cost.argmin(dim=0), cost.shape[0]).T.bool()
    return torch.where(shared[None], cheapest_box, chosen)
