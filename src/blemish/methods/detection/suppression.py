"""Non-maximum suppression: the end of every detector's graph.

All detectors ship the same form of graph: suppression is inside it, and its outputs are `boxes`, `box_scores` and
`box_labels` of a fixed number of rows an image, best first, padded with rows of score 0. So a graph takes any number of
images, the inspector needs no settings to read it, and masks are computed for kept boxes only.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from blemish.methods.detection.boxes import pairwise_iou

SuppressionKind = Literal["hard", "soft"]
MIN_SIDE = 1.0  # px; a narrower box is dropped


@dataclass(frozen=True)
class Suppression:
    """Settings of non-maximum suppression, by which boxes on the same defect become one."""

    kind: SuppressionKind = "hard"
    iou: float = 0.5  # boxes of one class that overlap by more are one
    sigma: float = 0.5  # of soft suppression: scores fall by exp(-iou^2 / sigma)
    candidates: int = 400  # best boxes of an image that take part
    max_boxes: int = 100  # rows in the output
    min_score: float = 0.01  # boxes that score less become padding


def suppress(boxes: Tensor, scores: Tensor, settings: Suppression) -> dict[str, Tensor]:
    """The graph's outputs from boxes (N, K, 4), or (N, K, C, 4) with boxes of each class, and scores (N, K, C)."""
    classes = scores.shape[2]
    count = min(settings.candidates, int(scores.shape[1] * classes))
    best, index = scores.flatten(1).topk(count, dim=1)  # sorted, best first
    source = boxes.flatten(1, 2) if boxes.dim() == 4 else boxes
    row = index if boxes.dim() == 4 else torch.div(index, classes, rounding_mode="floor")
    chosen = source.gather(1, row[..., None].expand(-1, -1, 4))
    labels = index % classes
    sides = (chosen[..., 2:] - chosen[..., :2]).amin(dim=2)
    best = best * ((best >= settings.min_score) & (sides >= MIN_SIDE))
    rows = min(settings.max_boxes, count)
    if settings.kind == "hard":
        final, order = (best * nms_mask(chosen, best, labels, settings.iou)).topk(rows, dim=1)
    else:
        final, order = soft_nms(chosen, best, labels, settings.sigma, rows)
        final = final * (final >= settings.min_score)
    kept = final > 0
    return {
        "boxes": chosen.gather(1, order[..., None].expand(-1, -1, 4)) * kept[..., None],
        "box_scores": final,
        "box_labels": labels.gather(1, order) * kept,
    }


def nms_mask(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Greedy suppression within each image and class: 1 for kept boxes, else 0, (N, K) like the scores.

    One call for all images: the boxes of each image and class are shifted to a cell of their own, so that no two meet.
    """
    images, count = boxes.shape[:2]
    cell = boxes.amax() - boxes.amin() + 1
    image = torch.arange(images, device=boxes.device)[:, None].expand(-1, count)
    shift = torch.stack([image, labels], dim=-1) * cell
    # Four numbers a box is in the graph as a constant; OpenVINO does not find it out by itself.
    index = nms((boxes + shift.repeat(1, 1, 2)).reshape(-1, 4), scores.flatten(), iou)
    return torch.zeros_like(scores).flatten().scatter(0, index, 1.0).view_as(scores)


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, sigma: float, count: int) -> tuple[Tensor, Tensor]:
    """Gaussian Soft-NMS (Bodla et al. 2017) within each image and class: the `count` best scores and their indices.

    The best box is taken, the scores of those that overlap it fall by exp(-iou^2 / sigma), and so on. Unrolled in the
    graph, one step a box.
    """
    same_class = labels[:, :, None] == labels[:, None, :]
    decay = torch.exp(-pairwise_iou(boxes, boxes).square() / sigma) * same_class + ~same_class
    remaining, indices, values = scores, [], []
    for _ in range(count):
        best, index = remaining.max(dim=1, keepdim=True)
        values.append(best)
        indices.append(index)
        row = decay.gather(1, index[..., None].expand(-1, -1, decay.shape[2])).squeeze(1)
        remaining = (remaining * row).scatter(1, index, -1.0)
    return torch.cat(values, dim=1).clamp(min=0), torch.cat(indices, dim=1)
