"""Feature classifier: a classical classifier on the features of a frozen network, selected by cross-validation."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from blemish.dataset.sample import Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo, OnePassMethod, Options
from blemish.methods.classification.class_balance import class_counts
from blemish.methods.classification.classical import CLASSIFIERS, HEADS, flatten_views, select_classifier
from blemish.methods.common.backbones import FeatureOptions, load_backbone
from blemish.methods.common.blocks import FrozenNetwork
from blemish.methods.common.collector import Collector

KINDS = sorted(CLASSIFIERS)
MIN_IMAGES = 2  # of a class: one to fit, and one to score


class FeatureClassifierOptions(FeatureOptions):
    image_size: int = Field(224, ge=32, le=4096, description="side of the square that the network sees, in px")
    strides: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="feature maps whose means are the features")
    classifier: Literal[
        "auto", "linear-svm", "rbf-svm", "logistic", "neighbours", "forest", "gaussian"
    ] = Field("auto", description="auto: the best of all in cross-validation")  # fmt: skip
    folds: int = Field(5, ge=2, description="of the cross-validation; fewer where a class has fewer images")
    flips: bool = Field(False, description="fit on the mirrored images too")


class FeatureClassifier(OnePassMethod):
    """Sharif Razavian et al. 2014, "CNN Features Off-the-Shelf: an Astounding Baseline for Recognition", CVPR-W.

    The means of a frozen network's feature maps, standardised, then a classifier of scikit-learn's. Kept: no network
    is trained, a linear SVM is among the candidates. Deviations: features of several strides instead of one fully
    connected layer; the classifier and its setting are chosen by cross-validated macro F1; the probabilities are a
    softmax of its scores at the temperature that suits the left-out scores (Guo et al. 2017).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="feature-classifier",
        branch="classification",
        title="Feature classifier",
        paper="Sharif Razavian et al. 2014, CNN Features Off-the-Shelf: an Astounding Baseline for Recognition, CVPR-W",
        requires=("label",),
        answers=("what",),
        summary="SVM, logistic regression, k-NN, forest or Gaussians on frozen features; ready in a minute or two.",
        smoke={"classifier": "logistic", "folds": 2},
    )
    Options: ClassVar[type[Options]] = FeatureClassifierOptions
    options: FeatureClassifierOptions
    mean: Tensor
    deviation: Tensor
    temperature: Tensor

    def __init__(self, options: FeatureClassifierOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        size = sum(backbone.channels)
        self.backbone = FrozenNetwork(backbone)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("kind", torch.tensor(0))  # index into KINDS
        self.head: torch.nn.Module | None = None
        self.collected = Collector()

    def features(self, images: Tensor) -> Tensor:
        """Mean-pooled features (N, D), not standardised."""
        return torch.cat([maps.mean(dim=(2, 3)) for maps in self.backbone(images)], dim=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert self.head is not None
        scores = self.head((self.features(images) - self.mean) / self.deviation)
        return {"class_scores": (scores / self.temperature).softmax(dim=1)}

    def before_training(self, dataset: Dataset) -> None:
        class_counts(dataset, self.classes)

    def training_step(self, batch: Batch, index: int) -> None:
        views = [batch["image"]]
        if self.options.flips:
            views += [views[0].flip(3), views[0].flip(2), views[0].flip(2, 3)]
        self.collected.add(torch.stack([self.features(view) for view in views], dim=1), batch["label"])

    def finish(self) -> None:
        x, labels = self.collected.gather()
        x, labels = x[labels >= 0], labels[labels >= 0]
        flat = x.flatten(0, 1)
        self.mean = flat.mean(dim=0)
        self.deviation = flat.std(dim=0).clamp(min=1e-6)
        vectors = ((x - self.mean) / self.deviation).cpu().numpy()
        y = labels.cpu().numpy()
        names: list[str] = KINDS if self.options.classifier == "auto" else [self.options.classifier]
        counts = labels.bincount(minlength=len(self.classes)).tolist()
        if rare := [name for name, count in zip(self.classes, counts, strict=True) if count < MIN_IMAGES]:
            raise DataError(
                f"{' and '.join(rare)}: fewer than {MIN_IMAGES} images, too few for cross-validation; raise `share` in "
                "the defect specification, or add images"
            )
        folds = min(self.options.folds, min(counts))
        seed = torch.initial_seed() % 2**31
        candidates = select_classifier(vectors, y, names, folds, seed)
        best = candidates[0]
        self.log_dict({f"macro_f1_{one.name}": one.macro_f1 for one in reversed(candidates)})
        self.kind = torch.tensor(KINDS.index(best.name), device=self.mean.device)
        self.temperature = torch.tensor(best.temperature, device=self.mean.device)
        self.head = best.fit(*flatten_views(vectors, y), seed).to(self.mean.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # The stored kind determines the head's class; its tensors are filled in after this module's own.
        if f"{prefix}kind" in state_dict:
            own = f"{prefix}head."
            tensors = {k.removeprefix(own): torch.empty_like(v) for k, v in state_dict.items() if k.startswith(own)}
            self.head = HEADS[KINDS[int(state_dict[f"{prefix}kind"])]](**tensors)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
