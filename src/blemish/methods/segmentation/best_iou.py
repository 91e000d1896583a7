"""Intersection over union of a map with the truth, at the threshold that suits it best."""

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 200


class BestIoU(Metric):
    """Over all pixels that were shown, of all processes; thresholds are steps of 1 / BINS.

    The threshold that ships is chosen on validation images too, so a network is not worse for being shy.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, truth: Tensor) -> None:
        """Scores in [0, 1] and truth, both (P,)."""
        bins = (scores * BINS).long().clamp(0, BINS - 1)
        for row, side in zip(self.counts, (~truth, truth), strict=True):
            row += torch.bincount(bins[side], minlength=BINS)

    def compute(self) -> Tensor:
        """0 where no pixel was defective."""
        false, hits = self.counts.flip(1).cumsum(dim=1).double()
        return (hits / (false + hits[-1]).clamp(min=1)).max().float()
