"""Classifier: a whole network that classifies images, fine-tuned or trained from scratch."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from pydantic import Field
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_f1_score, multilabel_f1_score

from blemish.dataset.sample import GOOD, Dataset
from blemish.methods.base import Batch, Item, Method, MethodInfo, ignored_when, pad_to_two
from blemish.methods.classification.class_balance import class_balanced_weights, class_counts, effective_number_weights
from blemish.methods.classification.losses import (
    class_activation_map,
    multi_label_probabilities,
    sigmoid_loss,
    softmax_loss,
)
from blemish.methods.classification.networks import Trunk
from blemish.methods.classification.temperature import fit_binary_temperature, fit_temperature, shows_classes
from blemish.methods.common.augmentation import AugmentationOptions, augment
from blemish.methods.common.backbones import DEFAULT_BACKBONE
from blemish.methods.common.collector import Collector
from blemish.methods.common.ema import AveragedWeights
from blemish.methods.common.metric_losses import metric_loss
from blemish.methods.common.mixup import cutmix, mixup
from blemish.methods.common.schedule import cosine_phases
from blemish.methods.common.small_sets import SmallSetOptions

LABEL_KEYS = ("label", "present", "has_label")  # of an item, as a classifier needs them

PRETRAINED_RATE, SCRATCH_RATE = 3e-4, 1e-3


class NetworkOptions(AugmentationOptions):
    """Options of methods that train a whole classification network."""

    image_size: int = Field(192, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(16, ge=2, description="images in a training batch")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm or torchvision name of the network, or 'compact'")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    learning_rate: float | None = Field(
        None, gt=0, description="of AdamW, at its highest; null: 0.0003 for a pretrained network, 0.001 from scratch"
    )
    # Zoom and shift add a grey border, which lowers the accuracy of networks with frozen BatchNorm statistics and mean
    # pooling, so there is no geometric augmentation of this kind by default.
    zoom: float = Field(0.0, ge=0, lt=1, description="largest change of scale, as a share")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift, as a share of the image")
    weight_decay: float = Field(0.02, ge=0, description="of AdamW")
    first_rate: float = Field(0.1, gt=0, le=1, description="learning rate of the first layer, as a share of the last's")
    freeze: float = Field(
        0.25, ge=0, le=1, description="share of the pretrained network, from its input on, that stays"
    )
    freeze_norm: Literal["auto", True, False] = Field(
        "auto", description="keep the statistics of BatchNorm; auto: where the weights are pretrained"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="before the last layer")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="stochastic depth at the deepest block, in networks of timm that have it"
    )
    loss: Literal["cross-entropy", "focal"] = Field("cross-entropy", description="what is minimised")
    gamma: float = Field(
        2.0, gt=0, description="of the focal loss", json_schema_extra=ignored_when("loss", "cross-entropy")
    )
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all classes")
    balance: Literal["none", "weights", "sampler"] = Field(
        "weights", description="unbalanced classes: nothing, weights by their effective number, or equal sampling"
    )
    beta: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="of the effective number; 0: all alike, to 1: inverse counts",
        json_schema_extra=ignored_when("balance", "none", "sampler"),
    )


class ClassifierOptions(NetworkOptions, SmallSetOptions):
    few: ClassVar[dict[str, Any]] = {
        "dropout": 0.4, "drop_path": 0.1, "label_smoothing": 0.1, "weight_decay": 0.05, "freeze": 0.5,
        "balance": "sampler", "epochs": 20, "patience": 8, "noise": 0.02, "mixup": 0.2, "average": 0.98,
        "embedding_loss": "supervised-contrastive",
    }  # fmt: skip

    epochs: int = Field(10, ge=1, description="passes over the training images")
    patience: int = Field(0, ge=0, description="stop after so many epochs without gain on images for tuning; 0: never")
    map_stride: Literal[8, 16] | None = Field(
        None,
        description="px of the network's input for each point of the class map, by dilating the last stages; null: "
        "the network's own, mostly 32",
    )
    multi_label: bool = Field(False, description="several defects in one image: a separate probability for each class")
    embedding_weight: float = Field(
        0.5, ge=0, description="weight of the embedding loss", json_schema_extra=ignored_when("embedding_loss", "none")
    )
    mixup: float = Field(0.0, ge=0, description="alpha of mixup in every other step; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix in every other step; 0: none")


class TrunkMethod(Method):
    """Base of methods that train a whole classification network, validated by macro F1 at a fitted temperature."""

    monitor: ClassVar[str | None] = "val_score"
    options: NetworkOptions
    temperature: Tensor

    def __init__(self, options: NetworkOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.trunk = make_trunk(options, channels)
        self.dropout = nn.Dropout(options.dropout)
        self.register_buffer("temperature", torch.ones(()))
        self.validation = Collector()

    @property
    def gamma(self) -> float:
        """Exponent of the focal loss; 0: cross-entropy."""
        return self.options.gamma if self.options.loss == "focal" else 0.0

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        if self.options.balance != "sampler":
            return None
        return class_balanced_weights(dataset, self.classes, self.multi_label)

    def train_transform(self) -> Callable[[Item], Item]:
        options = self.options
        return lambda item: keep_labels(augment(keep_labels(item), options))

    def log_validation(self, f1: Tensor, loss: Tensor) -> None:
        self.log_dict({"val_loss": loss, "val_f1": f1}, prog_bar=True)
        if not f1.isnan():  # Lightning's early stopping ends a training at a metric that is not defined
            # Among epochs of equal F1, the one with the lower loss is better.
            self.log("val_score", f1 - 0.1 * loss, prog_bar=True)


class Classifier(TrunkMethod):
    """A network with a linear layer for the classes at its end.

    Fine-tuning with learning rates that grow from the first layer to the last (Howard & Ruder 2018), AdamW, warm-up and
    cosine decay; classes weighted by their effective number (Cui et al. 2019); one temperature, fitted on the
    images for tuning and part of the graph (Guo et al. 2017). Networks that pool before the last layer also output
    class activation maps (Zhou et al. 2016), relative to good, or to the mean of the classes where none is good.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="classifier",
        branch="classification",
        title="Classifier",
        paper="Zhou et al. 2016, Learning Deep Features for Discriminative Localization, CVPR; Guo et al. 2017, "
        "On Calibration of Modern Neural Networks, ICML",
        requires=("label",),
        answers=("what", "where"),
        summary="Any network of timm or torchvision, fine-tuned on labelled images; heat map where it pools last.",
        smoke={"backbone": "compact", "epochs": 8},
    )
    Options: ClassVar[type[ClassifierOptions]] = ClassifierOptions
    options: ClassifierOptions

    def __init__(self, options: ClassifierOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.good = classes.index(GOOD) if GOOD in classes else None
        self.names = self.defect_classes if options.multi_label else classes  # the outputs of the last layer
        self.head = nn.Linear(self.trunk.size, len(self.names))
        self.register_buffer("class_weights", torch.ones(len(self.names)))
        if options.embedding_loss != "none":
            self.embedding_loss = metric_loss(options.embedding_loss, len(classes), self.trunk.size)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        vectors, maps = self.trunk(images)
        if maps is not None and self.options.map_stride is not None:
            maps = self.trunk.fine_maps(images)
        logits = self.head(vectors) / self.temperature
        if self.options.multi_label:
            outputs = {"class_scores": multi_label_probabilities(logits, self.good is not None)}
        else:
            outputs = {"class_scores": logits.softmax(dim=1)}
        if maps is not None:
            outputs["class_map"] = self.class_map(maps)
        return outputs

    def class_map(self, maps: Tensor) -> Tensor:
        """(N, K, h, w) over all classes."""
        if not self.options.multi_label:
            return class_activation_map(maps, self.head.weight, self.good)
        own = torch.einsum("nfhw,kf->nkhw", maps, self.head.weight)
        return own if self.good is None else torch.cat([torch.zeros_like(own[:, :1]), own], dim=1)

    def before_training(self, dataset: Dataset) -> None:
        counts = class_counts(dataset, self.classes, multi_label=self.multi_label)
        if self.options.balance == "weights":
            own = [n for n, name in zip(counts, self.classes, strict=True) if name in self.names]
            self.class_weights = effective_number_weights(own, self.options.beta)

    @property
    def multi_label(self) -> bool:
        return self.options.multi_label

    def training_step(self, batch: Batch, index: int) -> Tensor:
        batch = pad_to_two(batch)
        images, partner, share = self.mixed(batch["image"], self.global_step)
        vectors = self.trunk(channels_last(images))[0]
        logits = self.head(self.dropout(vectors))
        loss = self.loss(logits, batch)
        if partner is not None:
            labels = {key: batch[key][partner] for key in LABEL_KEYS if key in batch}
            loss = share * loss + (1 - share) * self.loss(logits, labels)
        elif self.options.embedding_loss != "none" and (known := batch["label"] >= 0).any():
            embedding_loss = self.embedding_loss(vectors[known].float(), batch["label"][known])
            self.log("embedding_loss", embedding_loss)
            loss = loss + self.options.embedding_weight * embedding_loss
        self.log("loss", loss, prog_bar=True)
        return loss

    def mixed(self, images: Tensor, step: int) -> tuple[Tensor, Tensor | None, float]:
        """In every other step, images mixed with partners: their indices, and the share of the images themselves.

        Steps are counted over the whole training: an epoch of a small set has only one.
        """
        mixers = [(mix, alpha) for mix, alpha in ((mixup, self.options.mixup), (cutmix, self.options.cutmix)) if alpha]
        if not mixers or step % 2 == 0:
            return images, None, 1.0
        mix, alpha = mixers[step // 2 % len(mixers)]
        return mix(images, alpha)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self.options.label_smoothing
        if not self.options.multi_label:
            return softmax_loss(logits, batch["label"], self.class_weights, smoothing, self.gamma)
        known = batch["has_label"]
        if not known.any():
            return logits.sum() * 0
        return sigmoid_loss(logits[known], batch["present"][known], self.class_weights, smoothing, self.gamma)

    def validation_step(self, batch: Batch, index: int) -> None:
        logits = self.head(self.trunk(channels_last(batch["image"]))[0]).float()
        if self.options.multi_label:
            known = batch["has_label"]
            self.validation.add(logits[known], batch["present"][known])
        else:
            self.validation.add(logits, batch["label"])

    def on_validation_epoch_end(self) -> None:
        """The metric that selects the best epoch, and the temperature, a buffer: that of the best epoch ships."""
        logits, targets = self.validation.gather()
        f1, loss = logits.new_tensor(torch.nan), logits.new_zeros(())
        temperature = 1.0
        unweighted = torch.ones_like(self.class_weights)
        if len(logits) and self.options.multi_label:
            if shows_classes(targets):
                f1 = multilabel_f1_score(logits.sigmoid(), targets.long(), num_labels=len(self.names))
            temperature = fit_binary_temperature(logits, targets)
            loss = sigmoid_loss(logits / temperature, targets, unweighted)
        elif len(logits):
            f1 = macro_f1(logits, targets)
            temperature = fit_temperature(logits, targets)
            loss = softmax_loss(logits / temperature, targets, unweighted)
        self.temperature.fill_(temperature)
        self.log_validation(f1, loss)

    def configure_optimizers(self) -> Any:
        heads = [self.head, *([self.embedding_loss] if self.options.embedding_loss != "none" else [])]
        return layerwise_optimizer(self.options, self.trunk, heads, int(self.trainer.estimated_stepping_batches))

    def configure_callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = [AveragedWeights(self.options.average)] if self.options.average else []
        if self.options.patience:  # not strict: without validation images it never stops early
            callbacks.append(EarlyStopping("val_score", mode="max", patience=self.options.patience, strict=False))
        return callbacks

    def trainer_options(self) -> dict[str, Any]:
        return {"max_epochs": self.options.epochs, "gradient_clip_val": 1.0}


def make_trunk(options: NetworkOptions, channels: int) -> Trunk:
    """The network with its frozen layers, of which there are none where the weights are random."""
    stride = getattr(options, "map_stride", None)
    trunk = Trunk(options.backbone, options.weights, channels, options.image_size, options.drop_path, stride)
    norms = trunk.pretrained if options.freeze_norm == "auto" else options.freeze_norm
    trunk.freeze(options.freeze if trunk.pretrained else 0.0, norms)
    return trunk


def layerwise_optimizer(options: NetworkOptions, trunk: Trunk, heads: list[nn.Module], *phases: int) -> dict[str, Any]:
    """AdamW with learning rates by layer; in each phase of so many steps a warm-up over a tenth, then half a cosine."""
    top = options.learning_rate or (PRETRAINED_RATE if trunk.pretrained else SCRATCH_RATE)
    layers = [*trunk.layers(options.first_rate), *((p, 1.0) for head in heads for p in head.parameters())]
    groups = [
        {"params": [p], "lr": top * rate, "weight_decay": options.weight_decay if p.dim() > 1 else 0}
        for p, rate in layers
    ]
    return cosine_phases(torch.optim.AdamW(groups), phases)


def macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """Macro F1 of (N, K) logits and (N,) labels, -1 ignored; NaN where fewer than two classes are known."""
    if not shows_classes(labels):
        return logits.new_tensor(torch.nan)
    known = labels >= 0
    return multiclass_f1_score(logits[known].argmax(dim=1), labels[known], num_classes=logits.shape[1])


def channels_last(images: Tensor) -> Tensor:
    """The same images in channels-last memory format, which halves the training time on a CPU."""
    return images.contiguous(memory_format=torch.channels_last)


def keep_labels(item: Item) -> Item:
    """An item with image and labels only: transforming masks would cost time for nothing."""
    return {key: value for key, value in item.items() if key == "image" or key in LABEL_KEYS}
