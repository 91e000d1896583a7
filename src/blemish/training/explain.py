"""Where a trained network looks: maps for one class of any method that gives class scores, from its run folder.

`cam` is the class map that the graph itself ships (Zhou et al. 2016). `patch-transfer` compares the features of each
patch with the mean image features of each class of the training images, by cosine: what the image-level class taught
is carried over to patches. All others are those of the library `grad-cam`. They explain the log-odds of the class
against all others, since only probabilities are common to all methods; for two classes that is the difference of the
logits that Grad-CAM (Selvaraju et al. 2017) speaks of.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import DataError, OptionError
from blemish.inspection.image_job import ImageInput
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection, Outputs
from blemish.methods.base import Method
from blemish.methods.common.blocks import FrozenNetwork
from blemish.training.learn.data import ImageItems, loader
from blemish.training.learn.fit_data import make_view
from blemish.training.learn.run import read_config, split_file
from blemish.training.train import load_method

Maps = NDArray[np.float32]
OWN = ("cam", "patch-transfer")
# Ours by the library's name. Those of a class's gradient need one; the others ask the network again and again.
LIBRARY = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "hires-cam": "HiResCAM",
    "xgrad-cam": "XGradCAM",
    "layer-cam": "LayerCAM",
    "eigen-grad-cam": "EigenGradCAM",
    "eigen-cam": "EigenCAM",
    "score-cam": "ScoreCAM",
    "ablation-cam": "AblationCAM",
}
METHODS = (*OWN, *LIBRARY)
WITHOUT_GRADIENTS = {"eigen-cam", "score-cam", "ablation-cam"}
PROTOTYPE_IMAGES = 40  # training images of each class that its prototype is the mean of


class Explainer:
    """A run, opened to be asked where its network looks."""

    def __init__(self, run: str | Path, method: str = "grad-cam", layer: str | None = None) -> None:
        """`layer` names the module whose activations are weighed; by default the last with a map on the way to the
        class scores. Raises OptionError for an unknown method or layer, DataError for a run without class scores."""
        if method not in METHODS:
            raise OptionError(f"there is no method '{method}' to explain with; choose one of {', '.join(METHODS)}")
        self.run, self.method = Path(run), method
        self.network = load_method(run).cpu().eval()
        if self.network.uses_template:
            raise DataError(f"{self.network.info.name} compares with a template and gives no class scores to explain")
        bundle = Inspector.open(run)
        # The map that is given takes the place of the graph's own, windows' probabilities too.
        manifest = bundle.manifest.model_copy(update={"windows": False})
        self.inspector = Inspector(bundle.bundle, bundle.engine, manifest)
        spec = manifest.input
        example = torch.rand(1, spec.channels, spec.height, spec.width)
        with torch.no_grad():
            outputs = self.network(example)
        if "class_scores" not in outputs:
            raise DataError(
                f"{self.network.info.name} gives no class scores to explain; its own heat map says where it looks"
            )
        if method == "cam" and "class_map" not in outputs:
            raise OptionError("this network has no class map of its own (it does not pool last); take grad-cam")
        self.classes = self.network.classes
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)  # so that gradients pass through frozen layers
        for module in self.network.modules():
            if isinstance(module, FrozenNetwork):
                module.passes_gradients = True
        if method in LIBRARY and method not in WITHOUT_GRADIENTS:
            with torch.enable_grad():
                if not self.network(example)["class_scores"].requires_grad:
                    raise OptionError(
                        f"the scores of this {self.network.info.name} have no gradient; take "
                        f"{', '.join(sorted(WITHOUT_GRADIENTS))} or patch-transfer"
                    )
        self.layer = None if method == "cam" else find_layer(self.network, example, layer)
        self.prototypes = self._prototypes() if method == "patch-transfer" else None

    def explain(self, image: ImageInput, label: str | None = None) -> tuple[Inspection, str]:
        """The inspection with the map of class `label` as its heat map, in pixels of the image, and the class.

        Without a label it is the likeliest defect class. Maps of the library and `cam` are scaled to [0, 1] for each
        window. Raises OptionError for an unknown class.
        """
        batch = self.inspector.prepare(image)
        with torch.no_grad():
            scores = self.network(torch.from_numpy(batch))["class_scores"].numpy()
        label = label or self._likeliest(scores)
        if label not in self.classes:
            raise OptionError(f"there is no class '{label}'; the run knows {', '.join(self.classes)}")
        maps = self.maps(batch, self.classes.index(label))
        every = np.repeat(maps[:, None], len(self.classes), axis=1)
        return self.inspector.inspect_outputs(image, Outputs(class_scores=scores, class_map=every)), label

    def maps(self, batch: Maps, index: int) -> Maps:
        """(N, h, w) maps of one class for windows (N, C, H, W), float32."""
        images = torch.from_numpy(batch)
        if self.method == "cam":
            with torch.no_grad():
                return unit(self.network(images)["class_map"][:, index].clamp(min=0).numpy())
        if self.prototypes is not None:
            return transfer_map(self._activations(images), self.prototypes, index).numpy()
        return self._by_library(images, index)

    def _by_library(self, images: Tensor, index: int) -> Maps:
        import pytorch_grad_cam

        kind: Callable[..., Any] = getattr(pytorch_grad_cam, LIBRARY[self.method])
        cam = kind(model=LogOdds(self.network), target_layers=[self.layer], reshape_transform=as_map)
        if self.method in ("score-cam", "ablation-cam"):
            cam.batch_size = 16
        with cam, torch.enable_grad(), redirect_stderr(io.StringIO()):  # it draws a progress bar for every image
            found = cam(input_tensor=images, targets=[lambda odds: odds[index]] * len(images))
        return np.asarray(found, np.float32)

    def _activations(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        assert self.layer is not None
        hook = self.layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
        with torch.no_grad():
            self.network(images)
        hook.remove()
        return as_map(seen[-1])

    def _prototypes(self) -> Tensor:
        """(K, F) mean of the pooled features of training images, one for each class that has any; else zeros."""
        config = read_config(self.run)
        training = read_dataset(split_file(self.run), "csv").split("train")
        rows = []
        for name in self.classes:
            own = training.where(lambda s, name=name: (s.label or (GOOD if s.defective is False else "")) == name)
            chosen = Dataset(own.samples[:PROTOTYPE_IMAGES], own.root, own.format)
            vectors = []
            for batch in loader(
                ImageItems(chosen, make_view(config), self.classes), 8, shuffle=False, workers=0, seed=0
            ):
                vectors.append(F.normalize(self._activations(batch["image"]).mean(dim=(2, 3)), dim=1))
            rows.append(torch.cat(vectors).mean(dim=0) if vectors else None)
        size = next((len(row) for row in rows if row is not None), None)
        if size is None:
            raise DataError(f"run {self.run} has no training image with a class; its prototypes cannot be made")
        return torch.stack([torch.zeros(size) if row is None else row for row in rows])

    def _likeliest(self, scores: Maps) -> str:
        order = np.argsort(-scores.max(axis=0))
        return next((self.classes[i] for i in order if self.classes[i] != GOOD), self.classes[int(order[0])])


class LogOdds(nn.Module):
    """Images to the log-odds (N, K) of each class against all others, from probabilities that cannot be 0 or 1."""

    def __init__(self, network: Method) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logs = self.network(images)["class_scores"].clamp(min=1e-30).log()
        count = logs.shape[1]
        others = [torch.cat([logs[:, :k], logs[:, k + 1 :]], dim=1).logsumexp(dim=1) for k in range(count)]
        return logs - torch.stack(others, dim=1) if count > 1 else logs


def transfer_map(features: Tensor, prototypes: Tensor, index: int) -> Tensor:
    """(N, h, w): cosine of each patch (N, F, h, w) with the class's prototype less that with the next best other."""
    patches = F.normalize(features, dim=1)
    likeness = torch.einsum("nfhw,kf->nkhw", patches, F.normalize(prototypes, dim=1))
    known = [k for k in range(len(prototypes)) if k != index and prototypes[k].any()]
    return likeness[:, index] - likeness[:, known].amax(dim=1) if known else likeness[:, index]


def find_layer(network: Method, example: Tensor, name: str | None = None) -> nn.Module:
    """The named module, or the last at work whose output is a map that the class scores follow from."""
    modules = dict(network.named_modules())
    if name is not None:
        if name not in modules:
            near = [key for key in modules if key.rpartition(".")[2] == name.rpartition(".")[2]][-5:]
            raise OptionError(f"there is no layer '{name}'" + (f"; did you mean {', '.join(near)}?" if near else ""))
        return modules[name]
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[-2:]) > 1:
            seen.append((module, output))

    hooks = [module.register_forward_hook(keep) for module in modules.values() if not list(module.children())]
    with torch.enable_grad():
        scores = network(example.clone().requires_grad_(True))["class_scores"]
    for hook in hooks:
        hook.remove()
    if scores.requires_grad:
        # One that works in place gives back what it was given, and its gradient is that of both.
        for module, output in reversed(seen):
            if (
                output.requires_grad
                and torch.autograd.grad(
                    scores.sum() + scores[:, 0].sum(), output, retain_graph=True, allow_unused=True
                )[0]
                is not None
            ):
                return module
    elif seen:
        return seen[-1][0]  # a network without gradients: for methods that need none
    raise OptionError("no layer with a map leads to the class scores; name one with --layer")


def as_map(output: Tensor) -> Tensor:
    """(N, F, h, w) of a layer's output; tokens (N, T, F) of a transformer without their first, odd ones."""
    if output.dim() == 4:
        return output
    if output.dim() != 3:
        raise OptionError(f"the layer's output has {output.dim()} axes and is no map; name another with --layer")
    side = int(output.shape[1] ** 0.5)
    patches = output[:, output.shape[1] - side * side :]
    return patches.transpose(1, 2).reshape(len(output), -1, side, side)


def unit(maps: Maps) -> Maps:
    """Maps (N, h, w), each from 0 to 1."""
    low, high = (edge(maps, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    return np.asarray((maps - low) / np.maximum(high - low, 1e-12), np.float32)
