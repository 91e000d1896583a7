"""Which box a reference box is to find: by overlap (Ren et al. 2015), and what is sampled of the matches."""

import torch
from torch import Tensor

from blemish.methods.detection.boxes import pairwise_iou

BACKGROUND = -1
IGNORED = -2


def match(references: Tensor, boxes: Tensor, high: float, low: float, force: bool = True) -> Tensor:
    """Index (K,) of the true box (M, 4) that each reference (K, 4) is to find, else BACKGROUND or IGNORED.

    A reference finds the box it overlaps most by at least `high`; below `low` it is background, between it is ignored.
    With `force`, the references that overlap a box the most find it, however little that is.
    """
    if not len(boxes):
        return references.new_full((len(references),), BACKGROUND, dtype=torch.int64)
    iou = pairwise_iou(boxes, references)  # (M, K)
    overlap, found = iou.max(dim=0)
    matched = torch.where(overlap >= high, found, IGNORED)
    matched = torch.where(overlap < low, BACKGROUND, matched)
    if force:
        best = iou.max(dim=1, keepdim=True).values
        wanted = ((iou == best) & (best > 0)).any(dim=0)
        matched = torch.where(wanted, found, matched)
    return matched


def sample(matched: Tensor, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """Indices of at most `count` references at random: matched ones, up to that share, the rest background."""
    positive = (matched >= 0).nonzero().squeeze(1)
    negative = (matched == BACKGROUND).nonzero().squeeze(1)
    positive = positive[torch.randperm(len(positive), device=matched.device)[: int(count * positive_share)]]
    negative = negative[torch.randperm(len(negative), device=matched.device)[: count - len(positive)]]
    return positive, negative


def counted(points: Tensor, valid: Tensor) -> Tensor:
    """Which points (K, 2), x and y in px, lie on pixels that count: (..., K) bool of masks (..., H, W)."""
    height, width = valid.shape[-2:]
    x, y = points[:, 0].long().clamp(0, width - 1), points[:, 1].long().clamp(0, height - 1)
    return valid[..., y, x]


def without_ignored(matched: Tensor, points: Tensor, valid: Tensor) -> Tensor:
    """Matches (..., K) of references with centres (K, 2): IGNORED for BACKGROUND on pixels that do not count.

    What lies there may be a defect that nobody has marked. `valid` (..., H, W) says which pixels count.
    """
    return torch.where((matched == BACKGROUND) & ~counted(points, valid), IGNORED, matched)


def targets(matched: Tensor, truth: list[Tensor]) -> tuple[Tensor, Tensor]:
    """For matches (N, K): classes (N, K) int64, -1 where none is to be found, and boxes (N, K, 4) to be found."""
    labels, boxes = torch.full_like(matched, -1), matched.new_zeros((*matched.shape, 4), dtype=torch.float32)
    for image, (found, known) in enumerate(zip(matched, truth, strict=True)):
        positive = found >= 0
        labels[image, positive] = known[found[positive], 4].long()
        boxes[image, positive] = known[found[positive], :4]
    return labels, boxes
