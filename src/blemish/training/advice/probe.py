"""Estimate what a method costs on this machine, by a short probe instead of a table from another machine.

Training time is (images that the method's schedule shows it) x (time of its network forward and backward). The
network's own forward pass is timed untrained; the ratio of backward to forward is timed on the default backbone, the
same for all. One-pass methods go forward once over each image with the backbone; further work on the features, such as
choosing a coreset, comes in addition and is not in the estimate.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blemish.methods.base import Method, OnePassMethod
from blemish.methods.catalogue import method_class
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.training.learn.options import check_options

BATCH = 4
REPEATS = 3
MB = 2**20
ADAM_COPIES = 4  # weights, gradients and Adam's two moments


@dataclass(frozen=True)
class RunEstimate:
    """Rough costs on the CPU: the machine may have been busy, and each method has costs of its own."""

    training_s: float
    latency_ms: float  # of the network, one image with all its tiles, in PyTorch; the shipped graph is often faster
    memory_mb: float  # of weights and activations in training, in addition to the libraries
    images: int  # shown in training, each tile and each repetition counted

    def rounded(self) -> dict[str, Any]:
        """The costs as plain data with two significant digits."""
        return {
            "training_s": _two(self.training_s),
            "latency_ms": _two(self.latency_ms),
            "memory_mb": _two(self.memory_mb),
            "images_shown": self.images,
        }


@dataclass(frozen=True)
class ProbeCost:
    """Cost of one image through a network, in seconds and bytes."""

    forward_s: float
    single_s: float  # alone, not in a batch
    activations: int  # of all layers, kept for the backward pass
    largest: int  # of one layer
    weights: int


@dataclass(frozen=True)
class MachineProfile:
    """Cost of the default backbone on this machine at one image size."""

    backbone: ProbeCost
    backward: float  # time of forward and backward together, relative to forward


def probe_machine(image_size: int, channels: int = 3) -> MachineProfile:
    """Time the default backbone, with random weights, forward and backward."""
    network = load_backbone(DEFAULT_BACKBONE, weights="random", channels=channels)
    images = torch.rand(BATCH, channels, image_size, image_size)

    def learn() -> None:
        sum(out.square().mean() for out in network(images)).backward()

    cost = measure_cost(network, network, image_size, channels)
    return MachineProfile(cost, max(1.0, timed(learn) / (cost.forward_s * BATCH)))


def measure_cost(network: nn.Module, call: Callable[[Tensor], Any], image_size: int, channels: int = 3) -> ProbeCost:
    """Time a call on a batch and on one image; activations are all outputs of the network's innermost modules."""
    network.eval()
    one, batch = (torch.rand(n, channels, image_size, image_size) for n in (1, BATCH))
    seen: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append(output.numel() * output.element_size())

    hooks = [m.register_forward_hook(count) for m in network.modules() if not list(m.children())]
    with torch.inference_mode():
        call(one)
        for hook in hooks:
            hook.remove()
        return ProbeCost(
            forward_s=timed(lambda: call(batch)) / BATCH,
            single_s=timed(lambda: call(one)),
            activations=sum(seen),
            largest=max(seen, default=0),
            weights=sum(p.numel() * p.element_size() for p in network.parameters()),
        )


def timed(call: Callable[[], Any]) -> float:
    """The fastest of a few runs, in seconds, after a warm-up: the others may have been disturbed."""
    call()
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def estimate(
    name: str,
    options: dict[str, Any],
    classes: tuple[str, ...],
    images: int,
    machine: MachineProfile,
    channels: int = 3,
    tiles: int = 1,
) -> RunEstimate:
    """Costs of a method with `images` training images of `tiles` tiles each; classes as in Dataset.classes."""
    kind = method_class(name)
    checked = check_options(kind.Options, _without_downloads(kind, options), name)
    method = kind(checked, classes, channels)
    batch = checked.batch_size
    shown = images_shown(method, images * tiles, batch)
    if isinstance(method, OnePassMethod):  # untrained, it has no forward pass
        own = machine.backbone
        training = shown * own.forward_s
        memory = batch * 2 * own.largest + own.weights  # a layer's input and output at a time
    else:
        own = measure_cost(method, method, checked.image_size, channels)
        training = shown * own.forward_s * machine.backward
        memory = batch * own.activations + ADAM_COPIES * own.weights
    return RunEstimate(training, 1000 * own.single_s * tiles, memory / MB, shown)


def images_shown(method: Method, images: int, batch: int) -> int:
    """Images that the method's schedule shows it, by its epochs or steps, whichever end first."""
    limits = method.trainer_options()
    epochs, steps = limits.get("max_epochs"), limits.get("max_steps")
    ends = [n * images for n in (epochs,) if n is not None and n > 0]
    ends += [n * min(batch, images) for n in (steps,) if n is not None and n > 0]
    return min(ends) if ends else images


def _without_downloads(kind: type[Method], options: dict[str, Any]) -> dict[str, Any]:
    """The options with random weights: same cost, no download."""
    return {**options, "weights": "random"} if "weights" in kind.Options.model_fields else options


def _two(value: float) -> float:
    """A number rounded to two significant digits."""
    return 0.0 if value <= 0 else round(value, 1 - math.floor(math.log10(value)))
