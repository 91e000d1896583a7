"""SimOTA: boxes assigned to locations at every step by how well each location predicts them already."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.detection.boxes import pairwise_iou
from blemish.methods.detection.matching import BACKGROUND

RADIUS = 2.5  # in strides: locations this near to a box's centre are candidates, even outside the box
TOP_K = 10  # a box is assigned to as many locations as its ten largest overlaps add up to
OVERLAP_WEIGHT = 3.0
OUTSIDE_COST = 1e5  # of a location that is not both inside the box and near its centre


@torch.no_grad()
def assign_sim_ota(locations: Tensor, strides: Tensor, boxes: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
    """Index (K,) of the target box assigned to each location, else BACKGROUND; Ge et al. 2021 (YOLOX), section 2.1.

    `locations` (K, 2) with their `strides` (K,), the `boxes` (K, 4) and `scores` (K, C) predicted there now, and the
    `targets` (M, 5), x0 y0 x1 y1 and class. Every target with a candidate location is assigned to one at least.
    """
    matches = torch.full((len(locations),), BACKGROUND, device=locations.device)
    inside, central = candidate_locations(locations, strides, targets[:, :4])
    candidates = (inside | central).any(dim=0).nonzero().squeeze(1)
    if not len(targets) or not len(candidates):
        return matches
    iou = pairwise_iou(targets[:, :4], boxes[candidates])  # (M, U)
    wanted = F.one_hot(targets[:, 4].long(), scores.shape[1]).float()
    predicted = scores[candidates].float().clamp(1e-6, 1 - 1e-6)
    # Cross-entropy of probabilities, not logits: written out, since mixed precision refuses torch's own.
    class_cost = -(wanted @ predicted.log().T + (1 - wanted) @ (1 - predicted).log().T)
    outside = ~(inside & central)[:, candidates]
    cost = class_cost - OVERLAP_WEIGHT * torch.log(iou + 1e-8) + OUTSIDE_COST * outside
    chosen = choose_cheapest(cost, iou)
    matches[candidates] = torch.where(chosen.any(dim=0), chosen.int().argmax(dim=0), BACKGROUND)
    return matches


def candidate_locations(locations: Tensor, strides: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether locations (K, 2) are inside each box (M, 4), and whether near its centre: (M, K) bool twice."""
    x, y = locations[None, :, 0], locations[None, :, 1]
    inside = (x > boxes[:, None, 0]) & (y > boxes[:, None, 1]) & (x < boxes[:, None, 2]) & (y < boxes[:, None, 3])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = (locations[None] - centre[:, None]).abs().amax(dim=2)
    return inside, offset < RADIUS * strides[None]


def choose_cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """Each box's k cheapest locations of costs (M, U), k the sum of its best overlaps (M, U): (M, U) bool.

    A location that several boxes would choose goes to the box for which it is cheapest.
    """
    counts = iou.topk(min(TOP_K, iou.shape[1]), dim=1).values.sum(dim=1).int().clamp(min=1)
    chosen = cost.argsort(dim=1).argsort(dim=1) < counts[:, None]
    contested = chosen.sum(dim=0) > 1
    cheapest_box = F.one_hot(cost.argmin(dim=0), cost.shape[0]).T.bool()
    return torch.where(contested[None], cheapest_box, chosen)
