"""Intersection over union of a score map with the ground truth, at the best threshold."""

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 200


class BestIoU(Metric):
    """IoU over all pixels of all images and processes, at the best of BINS evenly spaced thresholds.

    The shipped threshold is also chosen on validation images, so low scores as such are no disadvantage.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Scores (P,) in [0, 1] and ground truth (P,) bool."""
        bins = (scores * BINS).long().clamp(0, BINS - 1)
        for row, side in zip(self.counts, (~target, target), strict=True):
            row += torch.bincount(bins[side], minlength=BINS)

    def compute(self) -> Tensor:
        """The best IoU; NaN where no pixel is defective."""
        false, hits = self.counts.flip(1).cumsum(dim=1).double()
        if not hits[-1]:
            return hits.new_tensor(torch.nan).float()
        return (hits / (false + hits[-1]).clamp(min=1)).max().float()
