"""Start from another run: load the weights of its network, then train only fresh layers (linear probe) at first.

The two methods need not be the same: a segmenter can start from a classifier with the same backbone. Shared weights are
matched by name: by the longest common end of the names, below whatever each method calls its network.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Method
from blemish.methods.classification.networks import Trunk
from blemish.methods.common.backbones import Backbone
from blemish.training.learn.run import load_weights, read_config, weights_file

NamedTensors = dict[str, Tensor]
PROBE_SHARE = 0.1  # of the steps
MIN_SHARED = 0.1  # share of the network's parameters that must come from the other run


def load_shared_weights(method: nn.Module, run: str | Path) -> set[str]:
    """Load the network of another run's method into this one; returns the names of the loaded tensors.

    Raises OptionError where there is no such run, or the two have no network in common.
    """
    run = Path(run)
    config = read_config(run)
    if not weights_file(run).is_file():
        raise OptionError(f"run '{run}' has no weights yet; finish it with --resume {run}")
    names = transferable_parameters(method)
    found = match_by_name(load_weights(run), method.state_dict())
    matched = {name: tensor for name, tensor in found.items() if name in names}
    indices = index_buffers(method, set(matched))
    matched |= {name: tensor for name, tensor in found.items() if name in indices}
    total = sum(p.numel() for p in method.parameters())
    loaded = sum(p.numel() for name, p in method.named_parameters() if name in matched)
    if loaded < MIN_SHARED * total:
        raise OptionError(
            f"--from {run}: its {config.method} shares {loaded / max(total, 1):.0%} of this method's network; take a "
            "run with the same backbone (--set backbone=…)"
        )
    method.load_state_dict(matched, strict=False)
    return set(matched)


def pretrained_parameters(method: nn.Module) -> set[str]:
    """Names of the parameters that come from ImageNet or a weights file."""
    if getattr(getattr(method, "options", None), "weights", "random") == "random":
        return set()
    networks = [
        prefix
        for prefix, module in method.named_modules()
        if isinstance(module, Backbone) or (isinstance(module, Trunk) and module.pretrained)
    ]
    return {name for name, _ in method.named_parameters() if any(name.startswith(f"{n}.") for n in networks)}


def transferable_parameters(method: nn.Module) -> set[str]:
    """Names of the tensors that transfer to another task: parameters and statistics of BatchNorm.

    Layers that depend on the classes start fresh, even where two tasks have the same number of classes.
    """
    names = {name for name, _ in method.named_parameters()}
    for prefix, module in method.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            names |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    if isinstance(method, Method):
        wider = type(method)(method.options, (*method.classes, "one more class"), method.channels).state_dict()
        own = method.state_dict()
        names = {name for name in names if name in wider and own[name].shape == wider[name].shape}
    return names


def index_buffers(method: nn.Module, loaded: set[str]) -> set[str]:
    """Names of the integer buffers of layers all of whose parameters are loaded, which have no meaning without them.

    Such as the order of the channels of a flow, which is random. Those of the method itself depend on its data.
    """
    names = set()
    for prefix, module in method.named_modules():
        parameters = {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        if prefix and parameters and parameters <= loaded:
            own = module.named_buffers(recurse=False)
            names |= {f"{prefix}.{name}" for name, buffer in own if not buffer.is_floating_point()}
    return names


def match_by_name(source: NamedTensors, target: NamedTensors) -> NamedTensors:
    """Tensors of `source` under the names that `target` has for them, without layers after the shared network.

    Names agree in their ends; of all pairs of prefixes, the one under which most tensors match is taken.
    """
    by_end: defaultdict[str, list[str]] = defaultdict(list)
    for name in source:
        by_end[_last_two(name)].append(name)
    votes: Counter[tuple[str, str]] = Counter()
    for name, tensor in target.items():
        for other in by_end[_last_two(name)]:
            if source[other].shape == tensor.shape:
                votes[_prefixes(other, name)] += 1
    if not votes:
        return {}
    theirs, ours = max(votes, key=lambda pair: (votes[pair], pair))
    others = {name: theirs + name.removeprefix(ours) for name in target if name.startswith(ours)}
    return {
        name: source[other]
        for name, other in others.items()
        if other in source and source[other].shape == target[name].shape
    }


def _last_two(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _prefixes(first: str, second: str) -> tuple[str, str]:
    """The two dotted names without their common end."""
    a, b = first.split("."), second.split(".")
    common = 0
    while common < min(len(a), len(b)) and a[-1 - common] == b[-1 - common]:
        common += 1
    return "".join(f"{p}." for p in a[: len(a) - common]), "".join(f"{p}." for p in b[: len(b) - common])


def trainable(method: nn.Module, names: set[str]) -> list[nn.Parameter]:
    """Those of the named parameters that require gradients."""
    return [parameter for name, parameter in method.named_parameters() if name in names and parameter.requires_grad]


class LinearProbe(Callback):
    """Freeze the loaded layers for the first share of the steps, while the fresh layers learn to use them.

    Frozen parameters have no gradients, and their BatchNorm keeps its statistics. What a method itself lets train may
    change from epoch to epoch, so the layers are frozen again at each batch.
    """

    def __init__(self, loaded: set[str], share: float) -> None:
        self.loaded, self.share = loaded, share
        self.frozen: list[nn.Parameter] = []
        self.norms_fixed = False

    def on_train_epoch_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self._unfreeze()

    def on_train_batch_start(self, trainer: L.Trainer, method: L.LightningModule, batch: Any, index: int) -> None:
        if self._is_over(trainer):
            self._unfreeze()
            if self.norms_fixed:
                method.train()
                self.norms_fixed = False
            return
        own = trainable(method, self.loaded)
        if sum(p.requires_grad for p in method.parameters()) == len(own):
            return  # there are no fresh layers
        self.frozen, self.norms_fixed = [*self.frozen, *own], True
        for parameter in own:
            parameter.requires_grad_(False)
        for name, module in method.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and self._is_loaded(name):
                module.eval()

    def _is_loaded(self, norm: str) -> bool:
        return f"{norm}.weight" in self.loaded or f"{norm}.running_mean" in self.loaded

    def _unfreeze(self) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        self.frozen = []

    def _is_over(self, trainer: L.Trainer) -> bool:
        return trainer.global_step >= self.share * float(trainer.estimated_stepping_batches)
