"""What methods that learn by steps share: the learning-rate schedule, and a quiet walk over the training images."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from blemish.methods.base import Batch, Method


def cosine_decay(
    optimizer: Optimizer, steps: int, warmup: int = 0, floor: float = 0.0, hold: int = 0
) -> dict[str, Any]:
    """What `configure_optimizers` returns: linear warm-up, then half a cosine down to `floor` of the learning rate.

    `hold` is how many steps lie between the two at the full rate.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, max(0, step - warmup - hold) / max(1, steps - warmup - hold))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def plateau_cosine(optimizer: Optimizer, steps: int, warmup: float, full_until: float) -> dict[str, Any]:
    """`cosine_decay` by shares of the steps: a warm-up over the first, then the full rate up to `full_until`."""
    rising = round(warmup * steps)
    return cosine_decay(optimizer, steps, warmup=rising, hold=max(0, round(full_until * steps) - rising))


def cosine_phases(optimizer: Optimizer, phases: Sequence[int], warmup: float = 0.1) -> dict[str, Any]:
    """What `configure_optimizers` returns: for each phase of so many steps a warm-up over that share, then a cosine."""

    def factor(step: int) -> float:
        for length in phases[:-1]:
            if step < length:
                return _warm_cosine(step, length, warmup)
            step -= length
        return _warm_cosine(step, phases[-1], warmup)

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def _warm_cosine(step: int, steps: int, warmup: float) -> float:
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def late_step_decay(optimizer: Optimizer, *phases: int, share: float = 0.95, factor: float = 0.1) -> dict[str, Any]:
    """What `configure_optimizers` returns: a constant rate that falls to `factor` of it at `share` of each phase."""

    def rate(step: int) -> float:
        for length in phases[:-1]:
            if step < length:
                return 1.0 if step < share * length else factor
            step -= length
        return 1.0 if step < share * phases[-1] else factor

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}}


def training_batches(method: Method) -> Iterator[Batch]:
    """All training images once, in order, while the trainer holds its own place among them."""
    source = method.trainer.train_dataloader
    for batch in DataLoader(source.dataset, batch_size=source.batch_size, collate_fn=source.collate_fn):
        yield method.transfer_batch_to_device(batch, method.device, 0)
