"""Classification networks without their last layer: from images to a vector each and, if pooled, its feature map.

Names are timm's, then torchvision's (alexnet, googlenet, …), or `compact`, a small network of this package.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torchvision
from timm.models import adapt_input_conv
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models import get_model

from blemish.errors import OptionError
from blemish.methods.common.backbones import freeze_batchnorm, load_network, load_strictly, read_weights
from blemish.methods.common.blocks import conv_block

COMPACT = "compact"
COMPACT_WIDTHS = (16, 32, 64, 96, 128)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
ForwardFn = Callable[[Tensor], tuple[Tensor, Tensor]]


class Trunk(nn.Module):
    """Images (N, C, H, W) in [0, 1] to vectors (N, F) and maps (N, F, h, w).

    The maps are None where the vectors are not their mean, which class activation maps (Zhou et al. 2016) require; this
    is tested on random images. `size` is F. `drop_path` is stochastic depth, for networks of timm that have it;
    `map_stride` is that of `fine_maps`, for convolutional networks of timm whose own stride is larger. Raises
    OptionError where the network cannot take images of the size, or has no such stride.
    """

    mean: Tensor
    std: Tensor
    network: Any

    def __init__(
        self,
        name: str,
        weights: str,
        channels: int,
        image_size: int,
        drop_path: float = 0.0,
        map_stride: int | None = None,
    ) -> None:
        super().__init__()
        self.frozen_layers, self.frozen_norms = 0.0, False
        self.pretrained = weights != "random" and name != COMPACT
        if map_stride is not None and (name == COMPACT or not timm.is_model(name)):
            raise OptionError(f"map_stride is for convolutional networks of timm; leave it out with '{name}'")
        if name == COMPACT:
            self.network, self.forward_features = _compact(channels, weights)
        elif timm.is_model(name):
            self.network, self.forward_features = _from_timm(name, weights, channels, image_size, drop_path)
        elif name in torchvision.models.list_models(torchvision.models):
            self.network, self.forward_features = _from_torchvision(name, weights, channels)
        else:
            load_network(name)  # raises an error with similar names
        config = self.network.pretrained_cfg
        for key in ("mean", "std"):
            values = torch.tensor(config[key], dtype=torch.float32)
            values = values if len(values) == channels else values.mean().repeat(channels)
            self.register_buffer(key, values.view(1, -1, 1, 1), persistent=False)
        self.size, self.has_maps = self._probe(name, channels, image_size)
        # In a list, so that it is no module of this one: its weights are those of the network.
        self._dilated: list[Any] = []
        if map_stride is not None and self.has_maps:
            dilated = load_network(name, "random", channels, classes=0, output_stride=map_stride).eval()
            for key, module in self.network.named_modules():
                twin = dilated.get_submodule(key)
                twin._parameters, twin._buffers = module._parameters, module._buffers
            self._dilated.append(dilated)

    def fine_maps(self, images: Tensor) -> Tensor | None:
        """Maps (N, F, h, w) at `map_stride`: the same weights, the last stages dilated instead of strided.

        The network is evaluated densely (Chen et al. 2018, DeepLab, section 3.1): away from the border the coarse maps
        are every second point of these. Without `map_stride` they are the maps of `forward`.
        """
        if not self._dilated:
            return self(images)[1]
        return cast(Tensor, self._dilated[0].forward_features((images - self.mean) / self.std))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        vectors, maps = self.forward_features((images - self.mean) / self.std)
        return vectors, maps if self.has_maps else None

    def freeze(self, layers: float, norms: bool) -> None:
        """Freeze a share of the layers, from the input on, and with `norms` the BatchNorm statistics of all layers."""
        self.frozen_layers, self.frozen_norms = layers, norms
        parameters = list(self.network.parameters())
        for i, parameter in enumerate(parameters):
            parameter.requires_grad_(i >= layers * len(parameters))
        self.train(self.training)

    def train(self, mode: bool = True) -> "Trunk":
        super().train(mode)
        if self.frozen_layers >= 1:
            self.network.train(False)
        if self.frozen_norms:
            freeze_batchnorm(self.network)
        return self

    def layers(self, first_rate: float) -> list[tuple[nn.Parameter, float]]:
        """The trainable parameters with their factor of the learning rate: `first_rate` at the input, 1 at the end.

        In between the factor grows geometrically.
        """
        parameters = list(self.network.parameters())
        last = max(len(parameters) - 1, 1)
        return [(p, first_rate ** (1 - i / last)) for i, p in enumerate(parameters) if p.requires_grad]

    @torch.no_grad()
    def _probe(self, name: str, channels: int, image_size: int) -> tuple[int, bool]:
        was = self.training
        self.eval()
        try:
            vectors, maps = self.forward_features(torch.randn(2, channels, image_size, image_size))
        except Exception as error:  # every network has its own errors for a size that it does not support
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise OptionError(
                f"the network '{name}' cannot take images of {image_size} px with {channels} channels ({reason}); "
                "change image_size, or the network"
            ) from error
        self.train(was)
        mean = maps.mean(dim=(2, 3)) if maps.dim() == 4 else maps
        has_maps = maps.dim() == 4 and mean.shape == vectors.shape and torch.allclose(mean, vectors, 1e-3, 1e-4)
        return vectors.shape[1], has_maps


class AdaptiveGridPool(nn.Module):
    """Adaptive average pooling (N, C, h, w) to (N, C, a, b) that exports to ONNX for any h and w."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.size)

    def pool(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        rows, columns = (self._means(int(n), o).to(x) for n, o in zip(x.shape[-2:], size, strict=True))
        return rows @ x @ columns.T

    @staticmethod
    def _means(inputs: int, outputs: int) -> Tensor:
        """(outputs, inputs): each row averages its range of the inputs; ranges may overlap."""
        means = torch.zeros(outputs, inputs)
        for i in range(outputs):
            start, end = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
            means[i, start:end] = 1 / (end - start)
        return means


class MinSizePool(AdaptiveGridPool):
    """Enlarges maps (N, C, h, w) whose sides are shorter than `side` by pooling, as timm's VGG does inside."""

    def __init__(self, side: int) -> None:
        super().__init__((side, side))

    def forward(self, x: Tensor) -> Tensor:
        height, width = int(x.shape[-2]), int(x.shape[-1])
        size = max(height, self.size[0]), max(width, self.size[1])
        return x if size == (height, width) else self.pool(x, size)


def _compact(channels: int, weights: str) -> tuple[nn.Module, ForwardFn]:
    """Five stages of two convolutions each, about 0.47 M parameters."""
    if weights not in ("auto", "random"):
        raise OptionError(f"the compact network is trained from scratch; weights={weights} cannot be used with it")
    blocks, before = [], channels
    for width in COMPACT_WIDTHS:
        blocks += [conv_block(before, width, stride=2), conv_block(width, width)]
        before = width
    network: Any = nn.Sequential(*blocks)
    network.pretrained_cfg = {"mean": (0.5,), "std": (0.25,)}

    def forward_features(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = network(images)
        return maps.mean(dim=(2, 3)), maps

    return network, forward_features


def _from_timm(
    name: str, weights: str, channels: int, image_size: int, drop_path: float
) -> tuple[nn.Module, ForwardFn]:
    config = timm.get_pretrained_cfg(name)
    size = image_size if config is not None and config.fixed_input_size else None
    network = load_network(name, weights, channels, classes=0, image_size=size, drop_path=drop_path)
    # VGG enlarges maps below 7 x 7 by a pooling that does not export.
    enlarged = MinSizePool(7) if isinstance(network, VGG) else nn.Identity()

    def forward_features(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = network.forward_features(images)
        return network.forward_head(enlarged(maps)), maps

    return network, forward_features


def _from_torchvision(name: str, weights: str, channels: int) -> tuple[nn.Module, ForwardFn]:
    auxiliary = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if weights in ("auto", "imagenet"):
        try:
            network = get_model(name, weights="DEFAULT", **({"aux_logits": True} if auxiliary else {}))
        except Exception as error:  # hub, network and disk errors come in many kinds
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise OptionError(
                f"the ImageNet weights of '{name}' could not be fetched ({reason}); give a local file with "
                "--set weights=FILE, or train from scratch with --set weights=random"
            ) from error
        network.aux_logits, network.transform_input = False, False
        network.AuxLogits = network.aux1 = network.aux2 = None
    else:
        network = get_model(name, weights=None, **({**auxiliary, "init_weights": True} if auxiliary else {}))
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    first = next(key for key, module in network.named_modules() if isinstance(module, nn.Conv2d))
    network.pretrained_cfg = {**IMAGENET, "classifier": linear, "first_conv": first}
    if channels != 3:
        _replace_first(network, first, channels)
    if weights not in ("auto", "imagenet", "random"):
        load_strictly(network, read_weights(Path(weights)), weights)
    _replace(network, linear, nn.Identity())
    for key, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            _replace(network, key, AdaptiveGridPool(cast(tuple[int, int], module.output_size)))
    pooled: list[Tensor] = []
    pool = getattr(network, "avgpool", None)
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        pool.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0]))

    def forward_features(images: Tensor) -> tuple[Tensor, Tensor]:
        pooled.clear()
        vectors = network(images).flatten(1)
        return vectors, pooled.pop() if pooled else vectors

    return network, forward_features


def _replace_first(network: nn.Module, key: str, channels: int) -> None:
    """Adapt the first convolution to another number of channels, with weights derived from those for three."""
    old: Any = network.get_submodule(key)
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None
    )  # fmt: skip
    with torch.no_grad():
        new.weight.copy_(adapt_input_conv(channels, old.weight.detach()))
        if old.bias is not None:
            cast(Tensor, new.bias).copy_(old.bias)
    _replace(network, key, new)


def _replace(network: nn.Module, key: str, module: nn.Module) -> None:
    parent, _, name = key.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
