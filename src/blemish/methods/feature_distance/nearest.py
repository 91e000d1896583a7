"""Exact nearest neighbours in a memory bank, as matrix products that export."""

import torch
import torch.nn.functional as F
from torch import Tensor

SEARCH_CHUNK = 4096  # bank vectors compared at a time; bounds the memory of the shipped graph


def augmented_table(bank: Tensor) -> Tensor:
    """A table (M, D + 1) whose product with (x, 1) is the squared distance to each bank vector less |x|^2."""
    return torch.cat([-2 * bank, bank.square().sum(dim=1, keepdim=True)], dim=1)


def relative_distances(x: Tensor, bank: Tensor) -> Tensor:
    """(P, D) and (M, D) to (P, M) squared distances less |x|^2, as one matrix product: enough to rank by."""
    return F.pad(x, (0, 1), value=1.0) @ augmented_table(bank).T


def nearest_distance(x: Tensor, bank: Tensor) -> Tensor:
    """(P, D) vectors to the distance (P,) to the nearest of the (M, D) bank vectors."""
    padded = F.pad(x, (0, 1), value=1.0)
    best = [(padded @ chunk.T).topk(1, dim=1, largest=False) for chunk in augmented_table(bank).split(SEARCH_CHUNK)]
    values = torch.cat([chunk.values for chunk in best], dim=1)
    indices = torch.cat([chunk.indices + i * SEARCH_CHUNK for i, chunk in enumerate(best)], dim=1)
    nearest = bank[indices.gather(1, values.argmin(dim=1, keepdim=True))[:, 0]]
    # The product form loses the digits of a small distance; the difference keeps them.
    return (x - nearest).square().sum(dim=1).sqrt()


def bank_neighbours(bank: Tensor, count: int) -> Tensor:
    """Indices (M, min(count, M)) of the nearest vectors to each of the M bank vectors, itself first."""
    count = min(count, len(bank))
    centred = bank - bank.mean(dim=0)
    rows = max(1, 2**25 // (4 * len(bank)))
    neighbours = []
    for start in range(0, len(bank), rows):
        squared = relative_distances(centred[start : start + rows], centred)
        own = torch.arange(len(squared), device=bank.device)
        squared[own, start + own] = -torch.inf
        neighbours.append(squared.topk(count, dim=1, largest=False).indices)
    return torch.cat(neighbours)
