"""The network that refines regions: how it is built, taught and exported."""

import io
import warnings
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.arrays import FloatArray
from blemish.inspection.refine_window import INPUTS, SIDE

BATCH = 8
LEARNING_RATE = 6e-3
MAP_JITTER = (0.7, 1.3)  # the map of an unknown defect is higher or lower than that of a synthetic one
OPSET = 17


class RefineNetwork(nn.Module):
    """Probabilities (N, 1, H, W) of the defect from the inputs (N, INPUTS, H, W): a U-Net (Ronneberger et al. 2015).

    Deviations: four halvings by strides, up to 32 channels, and batch normalisation, since it has to be taught in a few
    minutes. Nothing is computed at full resolution, which would take as long as all the rest: the inputs themselves,
    each two by two pixels as channels, are joined at half of it, and each place answers for its four pixels (Shi et al.
    2016).
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (INPUTS, 16, 32, 32, 32)
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(a, b, stride=2), _convolution(b, b)) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList([_convolution(64, 32), _convolution(64, 32), _convolution(48, 16)])
        self.last = nn.Sequential(_convolution(16 + 4 * INPUTS, 16), nn.Conv2d(16, 4, 3, padding=1))

    def logits(self, inputs: Tensor) -> Tensor:
        levels = [inputs]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        features = levels.pop()
        for stage in self.up:
            features = stage(torch.cat([_double(features), levels.pop()], dim=1))
        logits: Tensor = self.last(torch.cat([features, functional.pixel_unshuffle(inputs, 2)], dim=1))
        return functional.pixel_shuffle(logits, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits(inputs).sigmoid()


def teach_refiner(inputs: FloatArray, masks: FloatArray, steps: int, seed: int) -> RefineNetwork:
    """A network taught on windows (N, INPUTS, SIDE, SIDE) with coverage (N, SIDE, SIDE) of their defects.

    The same seed gives the same network; the global random state is left as it was.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RefineNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    for _ in range(steps):
        images, targets = _sample_batch(inputs, masks, rng)
        logits = network.logits(images)[:, 0]
        shown = logits.sigmoid()
        overlap = (2 * (shown * targets).sum((1, 2)) + 1) / (shown.sum((1, 2)) + targets.sum((1, 2)) + 1)
        loss = functional.binary_cross_entropy_with_logits(logits, targets) + (1 - overlap).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def export_refiner(network: RefineNetwork) -> bytes:
    """The ONNX graph, for any number of windows; its output is named as an engine expects it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, INPUTS, SIDE, SIDE),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["mask_scores"],
            dynamic_axes={"images": {0: "n"}, "mask_scores": {0: "n"}},
        )
    return buffer.getvalue()


def _sample_batch(inputs: FloatArray, masks: FloatArray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows and masks at random, turned and mirrored, their map stretched."""
    chosen = rng.integers(0, len(inputs), BATCH)
    images, targets = torch.from_numpy(inputs[chosen]), torch.from_numpy(masks[chosen])
    turns = int(rng.integers(4))
    images, targets = torch.rot90(images, turns, (2, 3)), torch.rot90(targets, turns, (1, 2))
    if rng.random() < 0.5:
        images, targets = images.flip(3), targets.flip(2)
    images[:, 5] *= torch.from_numpy(rng.uniform(*MAP_JITTER, (BATCH, 1, 1)).astype(np.float32))
    return images.contiguous(memory_format=torch.channels_last), targets


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _double(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="nearest")
