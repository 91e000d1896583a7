"""Explain a class score: maps of the pixels that it depends on, for any method with class scores, from its run folder.

`cam` is the class map of the network itself (Zhou et al. 2016), of a classifier at stride 16 where its layers can be
dilated to that: the map that ships is mostly of stride 32, unless it was trained with `map_stride`. `patch-transfer`
asks another classifier, of patches, which is trained here on the run's training images; its map does not depend on the
run's network (see `patch_transfer`). All others come from the library `grad-cam`. They explain the log-odds of the
class against all others, since only probabilities are common to all methods; for two classes that is the difference of
the logits in Grad-CAM (Selvaraju et al. 2017).
"""

import io
import logging
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.arrays import FloatArray
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD
from blemish.errors import DataError, OptionError, unknown
from blemish.inspection.image_job import ImageInput
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Inspection, Outputs
from blemish.methods.base import Method
from blemish.methods.classification.classifier import Classifier
from blemish.methods.common.blocks import FrozenNetwork
from blemish.training.learn.fit_data import make_view
from blemish.training.learn.run import read_config, split_file
from blemish.training.patch_transfer import PatchScorer, fit_patch_scorer
from blemish.training.train import load_method

log = logging.getLogger(__name__)
OWN = ("cam", "patch-transfer")
# Names here and in the library. Most need the gradient of a class; the others run the network many times.
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
MAP_STRIDE = 16  # of `cam`
WITHOUT_GRADIENTS = {"eigen-cam", "score-cam", "ablation-cam"}


class Explainer:
    """The network of a run, prepared for one method of explanation."""

    def __init__(self, run: str | Path, method: str = "grad-cam", layer: str | None = None) -> None:
        """`layer` names the module whose activations are used; by default the last feature map before the class scores.

        Raises OptionError for an unknown method or layer, DataError for a run without class scores.
        """
        if method not in METHODS:
            raise OptionError(unknown("method of explanation", method, METHODS))
        self.run, self.method = Path(run), method
        self.network = load_method(run).cpu().eval()
        if method == "cam":
            self.network = with_fine_map(self.network)
        if self.network.uses_template:
            raise DataError(f"{self.network.info.name} compares with a template and gives no class scores to explain")
        bundle = Inspector.open(run)
        # The explanation replaces the class map of the graph, or of windows.
        manifest = bundle.manifest.model_copy(update={"windows": False})
        self.inspector = Inspector(bundle.bundle, bundle.engine, manifest)
        spec = manifest.input
        example = torch.rand(1, spec.channels, spec.height, spec.width)
        with torch.no_grad():
            outputs = self.network(example)
        if "class_scores" not in outputs:
            raise DataError(
                f"{self.network.info.name} gives no class scores to explain; its own heat map shows the defects"
            )
        if method == "cam" and "class_map" not in outputs:
            raise OptionError("this network has no class map of its own (it does not pool last); take grad-cam")
        self.classes = self.network.classes
        self._enable_gradients(example)
        self.layer = None if method in OWN else find_layer(self.network, example, layer)
        self.patches = self._fit_patches() if method == "patch-transfer" else None

    def _enable_gradients(self, example: Tensor) -> None:
        """Let gradients pass through frozen layers; OptionError where the method needs them and there are none."""
        self.network.requires_grad_(True)
        for module in self.network.modules():
            if isinstance(module, FrozenNetwork):
                module.passes_gradients = True
        if self.method in LIBRARY and self.method not in WITHOUT_GRADIENTS:
            with torch.enable_grad():
                scores = self.network(example)["class_scores"]
            if not scores.requires_grad:
                raise OptionError(
                    f"the scores of this {self.network.info.name} have no gradient; take "
                    f"{', '.join(sorted(WITHOUT_GRADIENTS))} or patch-transfer"
                )

    def explain(self, image: ImageInput, label: str | None = None) -> tuple[Inspection, str]:
        """The inspection with the map of class `label` as its heat map, at image size, and the class.

        Without a label it is the most probable defect class. Maps of the library and `cam` are scaled to [0, 1] for
        each window. A line is logged where nothing in the image speaks for the class. Raises OptionError for an unknown
        class, and for one of which the method has no map.
        """
        batch = self.inspector.prepare(image)
        with torch.no_grad():
            scores = self.network(torch.from_numpy(batch))["class_scores"].numpy()
        label = label or self._most_probable_defect(scores)
        if label not in self.classes:
            raise OptionError(unknown("class", label, self.classes))
        self._check_has_map(label)
        maps = self.maps(batch, self.classes.index(label))
        class_map = np.repeat(maps[:, None], len(self.classes), axis=1)
        inspection = self.inspector.inspect_outputs(image, Outputs(class_scores=scores, class_map=class_map))
        if np.ptp(maps) == 0:
            log.warning(f"{inspection.source or 'the image'}: {self.method} finds nothing that speaks for '{label}'")
        return inspection, label

    def _check_has_map(self, label: str) -> None:
        """OptionError for a class whose map is the same everywhere, whatever the image shows."""
        if self.method == "cam" and label == GOOD:
            raise OptionError(
                "cam shows what speaks against good, and has no map of it; take grad-cam, or a defect class"
            )
        if self.patches is not None and label != GOOD and label not in self.patches.trained:
            raise OptionError(f"no training image is of class '{label}', so that patch-transfer has no map of it")

    def maps(self, batch: FloatArray, index: int) -> FloatArray:
        """(N, h, w) maps of one class for windows (N, C, H, W), float32."""
        images = torch.from_numpy(batch)
        if self.method == "cam":
            with torch.no_grad():
                return scale_to_unit(self.network(images)["class_map"][:, index].clamp(min=0).numpy())
        if self.patches is not None:
            return self.patches.maps(images, self.classes[index]).numpy()
        return self._explain_by_library(images, index)

    def _explain_by_library(self, images: Tensor, index: int) -> FloatArray:
        import pytorch_grad_cam

        kind: Callable[..., Any] = getattr(pytorch_grad_cam, LIBRARY[self.method])
        cam = kind(model=LogOdds(self.network), target_layers=[self.layer], reshape_transform=to_feature_map)
        if self.method in ("score-cam", "ablation-cam"):
            cam.batch_size = 16
        with cam, torch.enable_grad(), redirect_stderr(io.StringIO()):  # it draws a progress bar for each image
            found = cam(input_tensor=images, targets=[lambda odds: odds[index]] * len(images))
        return np.asarray(found, np.float32)

    def _fit_patches(self) -> PatchScorer:
        config = read_config(self.run)
        training = read_dataset(split_file(self.run), "csv").split("train")
        return fit_patch_scorer(training, make_view(config), self.classes, config.seed)

    def _most_probable_defect(self, scores: FloatArray) -> str:
        order = np.argsort(-scores.max(axis=0))
        return next((self.classes[i] for i in order if self.classes[i] != GOOD), self.classes[int(order[0])])


def with_fine_map(network: Method) -> Method:
    """A classifier of the same weights whose class map has stride 16; the network itself where that is not possible."""
    if not isinstance(network, Classifier) or network.options.map_stride is not None:
        return network
    try:
        fine = type(network)(
            network.options.model_copy(update={"map_stride": MAP_STRIDE, "weights": "random"}),
            network.classes,
            network.channels,
        )
    except OptionError:  # a transformer, or a network of torchvision
        return network
    fine.load_state_dict(network.state_dict())
    return fine.eval()


class LogOdds(nn.Module):
    """Log-odds (N, K) of each class against all others, from probabilities limited to above 0."""

    def __init__(self, network: Method) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logs: Tensor = self.network(images)["class_scores"].clamp(min=1e-30).log()
        count = logs.shape[1]
        others = [torch.cat([logs[:, :k], logs[:, k + 1 :]], dim=1).logsumexp(dim=1) for k in range(count)]
        return logs - torch.stack(others, dim=1) if count > 1 else logs


def find_layer(network: Method, example: Tensor, name: str | None = None) -> nn.Module:
    """The named module, or the last one whose output is a feature map that the class scores depend on."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name is not None:
        if name not in modules:
            near = [key for key in modules if key.rpartition(".")[2] == name.rpartition(".")[2]][-5:]
            raise OptionError(unknown("layer", name, near or [key for key, _ in network.named_children()]))
        return modules[name]
    outputs: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[-2:]) > 1:
            outputs.append((module, output))

    hooks = [module.register_forward_hook(keep) for module in modules.values() if not list(module.children())]
    with torch.enable_grad():
        scores = network(example.clone().requires_grad_(True))["class_scores"]
    for hook in hooks:
        hook.remove()
    for module, output in reversed(outputs):
        if not scores.requires_grad:
            return module  # a network without gradients: for methods that need none
        # A module that works in place returns its input, whose gradient is that of both.
        total = scores.sum() + scores[:, 0].sum()
        if (
            output.requires_grad
            and torch.autograd.grad(total, output, retain_graph=True, allow_unused=True)[0] is not None
        ):
            return module
    raise OptionError("no layer with a feature map leads to the class scores; name one with --layer")


def to_feature_map(output: Tensor) -> Tensor:
    """(N, F, h, w) of a layer's output; the patch tokens of a transformer (N, T, F), without leading extra ones."""
    if output.dim() == 4:
        return output
    if output.dim() != 3:
        raise OptionError(
            f"the layer's output has {output.dim()} axes and is no feature map; name another with --layer"
        )
    side = int(output.shape[1] ** 0.5)
    patches = output[:, output.shape[1] - side * side :]
    return patches.transpose(1, 2).reshape(len(output), -1, side, side)


def scale_to_unit(maps: FloatArray) -> FloatArray:
    """Maps (N, h, w), each scaled to [0, 1]."""
    low, high = (edge(maps, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    return np.asarray((maps - low) / np.maximum(high - low, 1e-12), np.float32)
