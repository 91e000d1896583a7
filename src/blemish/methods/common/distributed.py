"""Collecting tensors from all processes of a distributed run."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_vectors(vectors: Tensor) -> Tensor:
    """The (n, D) vectors of all ranks, concatenated in order of rank; n may differ. In a single process, the input."""
    if not is_distributed():
        return vectors
    counts = [torch.zeros(1, dtype=torch.int64, device=vectors.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(vectors)], device=vectors.device))
    longest = max(int(count) for count in counts)
    padded = vectors.new_zeros((longest, *vectors.shape[1:]))
    padded[: len(vectors)] = vectors
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(gathered, counts, strict=True)])


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a tensor over all ranks; in a single process, the tensor itself."""
    if not is_distributed():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
