"""Coresets by greedy k-centre selection: exact, without an N x N matrix, and fast because distances may be stale.

The greedy rule (Gonzalez 1985; Sener & Savarese 2018) repeatedly takes the vector farthest from all those taken.
Distances to the taken ones only shrink, so an old distance is an upper bound. We therefore refine only the farthest
few thousand vectors one pick at a time, and go on as long as the best of them is at least as far as any vector
outside can be; then all distances are brought up to date with every new pick in one matrix product.
"""

import torch
from torch import Tensor

CANDIDATES = 4096  # vectors refined pick by pick between two full updates
CHUNK_BYTES = 32 * 2**20  # of one block of distances


def k_center_greedy(vectors: Tensor, count: int, in_place: bool = False) -> Tensor:
    """Indices, in the order of picking, of `count` of the (N, D) vectors; the first is the one nearest to their mean.

    The start does not depend on the order of the vectors. Memory beyond the input: N floats, CHUNK_BYTES, and a centred
    copy; none with `in_place`, which shifts float32 vectors to a mean of 0.
    """
    total = len(vectors)
    count = min(count, total)
    x = vectors.float()
    x = x.sub_(x.mean(dim=0)) if in_place else x - x.mean(dim=0)  # shorter vectors, smaller rounding errors
    norms = torch.linalg.vector_norm(x, dim=1).square()  # without a squared copy
    picked = [int(norms.argmin())]
    distances = torch.full((total,), float("inf"), device=x.device)  # squared distance to the nearest picked vector
    # One block for all updates: thousands of blocks of varying sizes would fragment the memory.
    scratch = x.new_empty(CHUNK_BYTES // 4)
    _update(distances, x, norms, torch.tensor(picked, device=x.device), scratch)
    while len(picked) < count:
        new = _pick_among_farthest(distances, x, norms, count - len(picked))
        picked += new.tolist()
        _update(distances, x, norms, new, scratch)
    return torch.tensor(picked[:count], device=vectors.device)


def _pick_among_farthest(distances: Tensor, x: Tensor, norms: Tensor, count: int) -> Tensor:
    """The next greedy picks, as many as follow from the farthest CANDIDATES alone."""
    size = min(CANDIDATES, len(x))
    values, candidates = distances.topk(size)
    bound = values[-1].item() if size < len(x) else -1.0  # nothing outside is farther than this
    local, local_norms = x[candidates], norms[candidates]
    distance = values.clone()
    new: list[int] = []
    while len(new) < count:
        value, position = distance.max(dim=0)
        if new and value.item() < bound:
            break
        index = int(position)
        new.append(index)
        to_new = torch.addmv(local_norms + local_norms[index], local, local[index], alpha=-2.0)
        distance = torch.minimum(distance, to_new.clamp_(min=0))
        distance[index] = -1.0  # never the same vector twice, also among duplicates
    return candidates[torch.tensor(new, device=x.device)]


def _update(distances: Tensor, x: Tensor, norms: Tensor, new: Tensor, scratch: Tensor) -> None:
    """Bring the distances of all vectors up to date with the new picks."""
    picks = x[new]
    pick_norms = norms[new]
    rows = max(1, len(scratch) // len(new))
    for start in range(0, len(x), rows):
        chunk = slice(start, start + rows)
        size = (len(x[chunk]), len(new))
        block = scratch[: size[0] * size[1]].view(size) if size[0] * size[1] <= len(scratch) else x.new_empty(size)
        torch.addmm(pick_norms[None], x[chunk], picks.T, alpha=-2.0, out=block)
        squared = block.amin(dim=1).add_(norms[chunk])
        torch.minimum(distances[chunk], squared.clamp_(min=0), out=distances[chunk])
    distances[new] = -1.0


class GrowingBuffer:
    """Vectors (N, D) that are added batch by batch, in one block of memory.

    Many small tensors that stay, among others that come and go, would fragment the memory.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._block: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def vectors(self) -> Tensor:
        assert self._block is not None, "nothing was added"
        return self._block[: self._count]

    def add(self, vectors: Tensor) -> None:
        needed = self._count + len(vectors)
        if self._block is None:
            # A processor's memory is taken only as it is filled; a GPU's at once, so the block grows there.
            rows = max(self._capacity, needed) if vectors.device.type == "cpu" else needed
            self._block = vectors.new_empty(rows, vectors.shape[1])
        elif needed > len(self._block):
            larger = vectors.new_empty(max(2 * len(self._block), needed), vectors.shape[1])
            larger[: self._count] = self.vectors
            self._block = larger
        self._block[self._count : needed] = vectors
        self._count = needed

    def replace(self, vectors: Tensor) -> None:
        """Discard all vectors and add these."""
        self._count = 0
        self.add(vectors)


def random_projection(dimensions: int, target: int, seed: int = 0) -> Tensor:
    """A (dimensions, target) Johnson-Lindenstrauss projection that keeps distances nearly as they are."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(dimensions, target, generator=generator) / target**0.5


def select_coreset(vectors: Tensor, count: int, dimensions: int = 128) -> Tensor:
    """At most `count` of the (N, D) vectors, a greedy k-centre coreset, as a tensor of its own.

    They are chosen in a random projection to so many `dimensions`; 0, or more than D: in all.
    """
    if len(vectors) <= count:
        return vectors.clone()
    if 0 < dimensions < vectors.shape[1]:
        reduced = vectors @ random_projection(vectors.shape[1], dimensions).to(vectors)
    else:
        reduced = vectors.clone()
    return vectors[k_center_greedy(reduced, count, in_place=True)]
