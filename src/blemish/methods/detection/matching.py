"""Ground-truth boxes assigned to anchors or proposals by overlap (Ren et al. 2015), and samples of the matches."""

import torch
from torch import Tensor

from blemish.methods.detection.boxes import centres_and_sizes, pairwise_iou

BACKGROUND = -1
IGNORED = -2


def match_boxes(
    anchors: Tensor, boxes: Tensor, positive_iou: float, negative_iou: float, force_best: bool = True
) -> Tensor:
    """Index (K,) of the ground-truth box (M, 4) assigned to each anchor (K, 4), else BACKGROUND or IGNORED.

    An anchor is assigned the box it overlaps most, by at least `positive_iou`; below `negative_iou` it is background,
    between the two it is ignored. With `force_best`, the anchors that overlap a box most are assigned to a box however
    small the overlap.
    """
    if not len(boxes):
        return anchors.new_full((len(anchors),), BACKGROUND, dtype=torch.int64)
    iou = pairwise_iou(boxes, anchors)  # (M, K)
    overlap, nearest = iou.max(dim=0)
    matches = torch.where(overlap >= positive_iou, nearest, IGNORED)
    matches = torch.where(overlap < negative_iou, BACKGROUND, matches)
    if force_best:
        best = iou.max(dim=1, keepdim=True).values
        matches = torch.where(((iou == best) & (best > 0)).any(dim=0), nearest, matches)
    return matches


def sample_matches(matches: Tensor, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """Indices of at most `count` anchors chosen at random: positive ones, up to that share, and background."""
    positive = (matches >= 0).nonzero().squeeze(1)
    negative = (matches == BACKGROUND).nonzero().squeeze(1)
    positive = positive[torch.randperm(len(positive), device=matches.device)[: int(count * positive_share)]]
    negative = negative[torch.randperm(len(negative), device=matches.device)[: count - len(positive)]]
    return positive, negative


def is_valid_at(locations: Tensor, valid: Tensor) -> Tensor:
    """Whether locations (K, 2), x and y in px, are valid pixels: (..., K) bool of valid masks (..., H, W)."""
    height, width = valid.shape[-2:]
    x, y = locations[:, 0].long().clamp(0, width - 1), locations[:, 1].long().clamp(0, height - 1)
    return valid[..., y, x]


def ignore_invalid(matches: Tensor, locations: Tensor, valid: Tensor) -> Tensor:
    """Matches (..., K) of anchors with centres (K, 2): IGNORED for BACKGROUND outside the valid mask (..., H, W).

    An object there may be a defect that nobody has annotated.
    """
    return torch.where((matches == BACKGROUND) & ~is_valid_at(locations, valid), IGNORED, matches)


def match_proposals(proposals: Tensor, boxes: Tensor, valid: Tensor, iou: float) -> Tensor:
    """Index (R,) of the box (M, 4) assigned to each proposal (R, 4) at that overlap, else BACKGROUND or IGNORED."""
    matches = match_boxes(proposals, boxes, iou, iou, force_best=False)
    return ignore_invalid(matches, centres_and_sizes(proposals)[0], valid)


def gather_targets(matches: Tensor, targets: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Classes (N, K) int64, -1 without a match, and boxes (N, K, 4) assigned by matches (N, K) to targets (M, 5)."""
    labels, boxes = torch.full_like(matches, -1), matches.new_zeros((*matches.shape, 4), dtype=torch.float32)
    for image, (own, target) in enumerate(zip(matches, targets, strict=True)):
        positive = own >= 0
        labels[image, positive] = target[own[positive], 4].long()
        boxes[image, positive] = target[own[positive], :4]
    return labels, boxes
