"""Starting from what another run has learnt: its network's weights, then a linear probe before all of it learns.

The two methods need not be the same: a segmenter can start from a classifier of the same backbone. What their weights
share is found by names: the longest part that both have in common, below whatever each method calls its network.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Method
from blemish.methods.classification.networks import Trunk
from blemish.methods.common.backbones import Backbone
from blemish.training.learn.run import read_config, weights_file

State = dict[str, Tensor]
PROBE = 0.1  # share of the steps that the linear probe takes
LEAST = 0.1  # share of a network's numbers that must come from the other run


def start_from(method: nn.Module, run: str | Path) -> set[str]:
    """Load the network of another run's method into this one; returns the names of what was loaded.

    Raises OptionError where there is no such run, or the two have no network in common.
    """
    run = Path(run)
    config = read_config(run)
    if not weights_file(run).is_file():
        raise OptionError(f"run '{run}' has no weights yet; finish it with --resume {run}")
    found = shared(load_file(weights_file(run)), method.state_dict())
    names = taught(method)
    found = {name: tensor for name, tensor in found.items() if name in names}
    learned = sum(p.numel() for p in method.parameters())
    loaded = sum(p.numel() for name, p in method.named_parameters() if name in found)
    if loaded < LEAST * learned:
        raise OptionError(
            f"--from {run}: its {config.method} shares {loaded / max(learned, 1):.0%} of this method's network; take a "
            "run with the same backbone (--set backbone=…)"
        )
    method.load_state_dict(found, strict=False)
    return set(found)


def pretrained(method: nn.Module) -> set[str]:
    """Names of the parameters that come from ImageNet or a weights file."""
    if getattr(getattr(method, "options", None), "weights", "random") == "random":
        return set()
    networks = [
        prefix
        for prefix, module in method.named_modules()
        if isinstance(module, Backbone) or (isinstance(module, Trunk) and module.pretrained)
    ]
    return {name for name, _ in method.named_parameters() if any(name.startswith(f"{n}.") for n in networks)}


def taught(method: nn.Module) -> set[str]:
    """Names of what one task can teach for another: parameters and statistics of BatchNorm.

    Not the layers that depend on the classes, though two tasks may have as many of them: those begin afresh.
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


def shared(source: State, target: State) -> State:
    """Tensors of `source` by the names that `target` has for them, without what follows the shared network.

    Names agree from their end on; of all pairs of beginnings, the one under which most tensors fit is taken.
    """
    by_end: defaultdict[str, list[str]] = defaultdict(list)
    for name in source:
        by_end[".".join(name.split(".")[-2:])].append(name)
    votes: Counter[tuple[str, str]] = Counter()
    for name, tensor in target.items():
        for other in by_end[".".join(name.split(".")[-2:])]:
            if source[other].shape == tensor.shape:
                votes[_beginnings(other, name)] += 1
    if not votes:
        return {}
    others, own = max(votes, key=lambda pair: (votes[pair], pair))
    found = {}
    for name, tensor in target.items():
        if name.startswith(own):
            other = others + name[len(own) :]
            if other in source and source[other].shape == tensor.shape:
                found[name] = source[other]
    return found


def _beginnings(first: str, second: str) -> tuple[str, str]:
    """What is left of two names without the parts at their end that agree."""
    a, b = first.split("."), second.split(".")
    same = 0
    while same < min(len(a), len(b)) and a[-1 - same] == b[-1 - same]:
        same += 1
    return tuple("".join(f"{part}." for part in parts[: len(parts) - same]) for parts in (a, b))  # type: ignore[return-value]


def learning(method: nn.Module, names: set[str]) -> list[nn.Parameter]:
    """The parameters among these that learn."""
    return [parameter for name, parameter in method.named_parameters() if name in names and parameter.requires_grad]


class LinearProbe(Callback):
    """Keeps what was loaded as it is for the first share of the steps, while the fresh layers learn to use it.

    Parameters do not learn, and BatchNorm keeps its statistics. What a method itself lets learn, which may change from
    epoch to epoch, is held anew with each batch.
    """

    def __init__(self, loaded: set[str], share: float) -> None:
        self.loaded, self.share = loaded, share
        self.held: list[nn.Parameter] = []
        self.still = False  # whether BatchNorm keeps its statistics

    def on_train_epoch_start(self, trainer: L.Trainer, method: L.LightningModule) -> None:
        self._release()

    def on_train_batch_start(self, trainer: L.Trainer, method: L.LightningModule, batch: Any, index: int) -> None:
        if self._over(trainer):
            self._release()
            if self.still:
                method.train()
                self.still = False
            return
        own = learning(method, self.loaded)
        if sum(p.requires_grad for p in method.parameters()) == len(own):
            return  # nothing fresh is there to learn
        self.held, self.still = [*self.held, *own], True
        for parameter in own:
            parameter.requires_grad_(False)
        for name, module in method.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and self._is_loaded(name):
                module.eval()

    def _is_loaded(self, norm: str) -> bool:
        return f"{norm}.weight" in self.loaded or f"{norm}.running_mean" in self.loaded

    def _release(self) -> None:
        for parameter in self.held:
            parameter.requires_grad_(True)
        self.held = []

    def _over(self, trainer: L.Trainer) -> bool:
        return trainer.global_step >= self.share * float(trainer.estimated_stepping_batches)
