"""Learning-rate schedules by steps, and a pass over the training images outside the training loop.

Each schedule returns what `configure_optimizers` returns: the optimizer with a `LambdaLR` that is stepped each batch.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from blemish.methods.base import Batch, Item, Method


def cosine_decay(
    optimizer: Optimizer, steps: int, warmup: int = 0, floor: float = 0.0, hold: int = 0
) -> dict[str, Any]:
    """Linear warm-up, `hold` steps at the full rate, then half a cosine down to `floor` of the learning rate."""
    return _by_step(optimizer, lambda step: _warm_cosine(step, steps, warmup, floor, hold))


def plateau_cosine(optimizer: Optimizer, steps: int, warmup: float, full_until: float) -> dict[str, Any]:
    """`cosine_decay` by shares of the steps: a warm-up over the first, then the full rate up to `full_until`."""
    rising = round(warmup * steps)
    return cosine_decay(optimizer, steps, warmup=rising, hold=max(0, round(full_until * steps) - rising))


def cosine_phases(optimizer: Optimizer, phases: Sequence[int], warmup: float = 0.1) -> dict[str, Any]:
    """In each of the `phases` (numbers of steps) a warm-up over the share `warmup`, then half a cosine to 0."""
    return _in_phases(
        optimizer, phases, lambda step, length: _warm_cosine(step, length, max(1, round(warmup * length)))
    )


def late_step_decay(optimizer: Optimizer, *phases: int, share: float = 0.95, factor: float = 0.1) -> dict[str, Any]:
    """A constant rate that drops to `factor` of it at the share `share` of each of the `phases` (numbers of steps)."""
    return _in_phases(optimizer, phases, lambda step, length: 1.0 if step < share * length else factor)


def _warm_cosine(step: int, steps: int, warmup: int, floor: float = 0.0, hold: int = 0) -> float:
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, max(0, step - warmup - hold) / max(1, steps - warmup - hold))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def _in_phases(optimizer: Optimizer, phases: Sequence[int], factor: Callable[[int, int], float]) -> dict[str, Any]:
    """The learning rate's `factor` of the step within its phase and of that phase's length."""

    def rate(step: int) -> float:
        for length in phases[:-1]:
            if step < length:
                return factor(step, length)
            step -= length
        return factor(step, phases[-1])

    return _by_step(optimizer, rate)


def _by_step(optimizer: Optimizer, factor: Callable[[int], float]) -> dict[str, Any]:
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def training_batches(method: Method) -> Iterator[Batch]:
    """All training images once, in order, without moving the trainer's own position in its data loader."""
    source: Any = method.trainer.train_dataloader
    return ordered_batches(method, source, source.dataset)


def plain_batches(method: Method, source: DataLoader[Item]) -> Iterator[Batch]:
    """All images of a loader of `ImageItems` once, in order, without augmentation or synthetic defects."""
    items: Any = copy.copy(source.dataset)
    items.transform, items.with_part = None, False
    return ordered_batches(method, source, items)


def ordered_batches(method: Method, source: DataLoader[Item], items: Dataset[Item]) -> Iterator[Batch]:
    """The items in order, in batches like the loader's, on the method's device."""
    for batch in DataLoader(items, batch_size=source.batch_size, collate_fn=source.collate_fn):
        yield method.transfer_batch_to_device(batch, method.device, 0)
