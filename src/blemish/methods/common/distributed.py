"""Bringing together what the processes of a distributed run have collected."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_vectors(vectors: Tensor) -> Tensor:
    """The (n, D) vectors of all ranks, one after another by rank; n may differ. Alone, the input itself."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return vectors
    counts = [torch.zeros(1, dtype=torch.int64, device=vectors.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(vectors)], device=vectors.device))
    longest = max(int(count) for count in counts)
    padded = vectors.new_zeros((longest, *vectors.shape[1:]))
    padded[: len(vectors)] = vectors
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks; alone, the tensor itself."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total
