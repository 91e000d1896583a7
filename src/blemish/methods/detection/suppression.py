"""From many scored boxes to few: the end of every detector's graph.

All detectors ship the same form of graph: non-maximum suppression is inside it, and its outputs are `boxes`,
`box_scores` and `box_labels` of a fixed number of rows an image, best first, padded with rows of score 0. So a graph
takes any number of images, the inspector needs no settings to read it, and masks are worked out for kept boxes alone.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from blemish.methods.detection.boxes import pairwise_iou

Kind = Literal["hard", "soft"]
LEAST_SIDE = 1.0  # px; what is narrower is no box


@dataclass(frozen=True)
class Suppression:
    """How boxes that find the same defect are made one."""

    kind: Kind = "hard"
    iou: float = 0.5  # boxes of one class that overlap by more are one
    sigma: float = 0.5  # of soft suppression: scores fall by exp(-iou^2 / sigma)
    candidates: int = 400  # best boxes of an image that take part
    most: int = 100  # rows that leave
    min_score: float = 0.01  # what scores less is padding


def detections(boxes: Tensor, scores: Tensor, how: Suppression) -> dict[str, Tensor]:
    """Boxes (N, K, 4), or (N, K, C, 4) where each class has its own, and scores (N, K, C) to the graph's outputs."""
    kinds = scores.shape[2]
    count = min(how.candidates, int(scores.shape[1] * kinds))
    best, place = scores.flatten(1).topk(count, dim=1)  # sorted, best first
    source = boxes.flatten(1, 2) if boxes.dim() == 4 else boxes
    row = place if boxes.dim() == 4 else torch.div(place, kinds, rounding_mode="floor")
    chosen = source.gather(1, row[..., None].expand(-1, -1, 4))
    labels = place % kinds
    sides = (chosen[..., 2:] - chosen[..., :2]).amin(dim=2)
    best = best * ((best >= how.min_score) & (sides >= LEAST_SIDE))
    if how.kind == "hard":
        left = best * kept(chosen, best, labels, how.iou)
        most = min(how.most, count)
        final, order = left.topk(most, dim=1)
    else:
        final, order = soften(chosen, best, labels, how.sigma, min(how.most, count))
        final = final * (final >= how.min_score)
    real = final > 0
    return {
        "boxes": chosen.gather(1, order[..., None].expand(-1, -1, 4)) * real[..., None],
        "box_scores": final,
        "box_labels": labels.gather(1, order) * real,
    }


def kept(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Greedy suppression within each image and class: 1 for boxes that stay, else 0, (N, K) like the scores.

    All images go through one call: they are laid side by side, the classes below one another, so that no two meet.
    """
    count, most = boxes.shape[:2]
    low, high = boxes.amin(), boxes.amax()
    cell = high - low + 1
    image = torch.arange(count, device=boxes.device)[:, None].expand(-1, most)
    shift = torch.stack([image, labels], dim=-1) * cell
    apart = boxes + shift.repeat(1, 1, 2)
    index = nms(apart.flatten(0, 1), scores.flatten(), iou)
    return torch.zeros_like(scores).flatten().scatter(0, index, 1.0).view_as(scores)


def soften(boxes: Tensor, scores: Tensor, labels: Tensor, sigma: float, most: int) -> tuple[Tensor, Tensor]:
    """Gaussian Soft-NMS (Bodla et al. 2017) within each image and class: the `most` best scores and their indices.

    The best box is taken, the scores of those that overlap it fall by exp(-iou^2 / sigma), and so on. Unrolled in the
    graph, one step a box.
    """
    same = labels[:, :, None] == labels[:, None, :]
    decay = torch.exp(-pairwise_iou(boxes, boxes).square() / sigma) * same + ~same
    live, taken, found = scores, [], []
    for _ in range(most):
        best, index = live.max(dim=1, keepdim=True)
        found.append(best)
        taken.append(index)
        row = decay.gather(1, index[..., None].expand(-1, -1, decay.shape[2])).squeeze(1)
        live = (live * row).scatter(1, index, -1.0)
    return torch.cat(found, dim=1).clamp(min=0), torch.cat(taken, dim=1)
