"""Tensors collected over the batches of an epoch."""

import torch
from torch import Tensor

from blemish.methods.common.distributed import gather_vectors


class Collector:
    """Rows of one or more tensors, batch by batch; `gather` concatenates them over batches and processes."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, ...]] = []

    def add(self, *tensors: Tensor) -> None:
        """Tensors (n, ...) of one batch, always in the same order."""
        self._batches.append(tensors)

    def gather(self) -> list[Tensor]:
        """All rows of each tensor so far, of all ranks; the collector is empty afterwards."""
        columns = [gather_vectors(torch.cat(column)) for column in zip(*self._batches, strict=True)]
        self._batches = []
        return columns
