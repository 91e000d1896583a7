"""Classifier: a whole network that tells the class of an image, fine-tuned or learnt from scratch."""

from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_f1_score, multilabel_f1_score

from blemish.dataset.sample import GOOD, Dataset
from blemish.methods.base import Batch, Item, Method, MethodInfo, ignored_when
from blemish.methods.classification.class_balance import class_balanced_weights, class_counts, effective_number_weights
from blemish.methods.classification.losses import (
    class_activation_map,
    multi_label_probabilities,
    sigmoid_loss,
    softmax_loss,
)
from blemish.methods.classification.networks import Trunk
from blemish.methods.classification.temperature import fit_binary_temperature, fit_temperature
from blemish.methods.common.augmentation import AugmentationOptions, augment
from blemish.methods.common.backbones import DEFAULT_BACKBONE
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.common.ema import AveragedWeights
from blemish.methods.common.metric_losses import metric_loss
from blemish.methods.common.mixup import cutmix, mixup
from blemish.methods.common.schedule import cosine_phases

TRUTH = ("label", "present", "has_label")  # of an item, as a classifier needs it

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
    # Moving the image brings a grey border in, which frozen BatchNorm statistics and a mean over the map take amiss: on
    # magnetic tiles validation macro F1 after three epochs is 0.77 without, 0.65 with it.
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
        "weights", description="unbalanced classes: nothing, weights by their effective number, or equal drawing"
    )
    beta: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="of the effective number; 0: all alike, to 1: inverse counts",
        json_schema_extra=ignored_when("balance", "none", "sampler"),
    )


# What `preset=few` puts in the place of the defaults; options that are given keep their values.
FEW: dict[str, Any] = {
    "dropout": 0.4, "drop_path": 0.1, "label_smoothing": 0.1, "weight_decay": 0.05, "freeze": 0.5, "balance": "sampler",
    "epochs": 20, "patience": 8, "noise": 0.02, "mixup": 0.2, "average": 0.98,
    "embedding_loss": "supervised-contrastive",
}  # fmt: skip


class ClassifierOptions(NetworkOptions):
    epochs: int = Field(10, ge=1, description="passes over the training images")
    patience: int = Field(0, ge=0, description="stop after so many epochs without gain on validation; 0: never")
    multi_label: bool = Field(False, description="several defects in one image: one yes or no for each class")
    embedding_loss: Literal[
        "none", "prototype", "triplet", "supervised-contrastive", "centre", "large-margin-cosine"
    ] = Field("none", description="added on the features before the last layer, for small sets")  # fmt: skip
    embedding_weight: float = Field(
        0.5,
        ge=0,
        description="of that loss beside the other",
        json_schema_extra=ignored_when("embedding_loss", "none"),
    )
    average: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights, which ship; 0: the last ones")
    mixup: float = Field(0.0, ge=0, description="alpha of mixup in every other step; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix in every other step; 0: none")
    preset: Literal["none", "few"] = Field("none", description="few: defaults for a handful of images of each class")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        few = isinstance(values, dict) and values.get("preset") == "few"
        return {**FEW, **values} if few else values


class Classifier(Method):
    """A network with a linear layer for the classes at its end.

    Fine-tuning with rates that grow from the first layer to the last (Howard & Ruder 2018), AdamW, warm-up and cosine;
    classes weighted by their effective number (Cui et al. 2019); one temperature, fitted on the validation images and
    part of the graph (Guo et al. 2017). Networks that pool before the last layer ship their class map (Zhou et al.
    2016), here as evidence against good, or against the mean of the classes where none is good.
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
    monitor: ClassVar[str | None] = "val_score"
    options: ClassifierOptions

    def __init__(self, options: ClassifierOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.good = classes.index(GOOD) if GOOD in classes else None
        self.names = self.defect_classes if options.multi_label else classes  # what the last layer tells apart
        self.trunk = make_trunk(options, channels)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(self.trunk.size, len(self.names))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("class_weights", torch.ones(len(self.names)))
        if options.embedding_loss != "none":
            self.embedding_loss = metric_loss(options.embedding_loss, len(classes), self.trunk.size)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        vectors, maps = self.trunk(images)
        logits = self.head(vectors) / self.temperature
        if self.options.multi_label:
            found = {"class_scores": multi_label_probabilities(logits, self.good is not None)}
        else:
            found = {"class_scores": logits.softmax(dim=1)}
        if maps is not None:
            found["class_map"] = self.class_map(maps)
        return found

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

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        if self.options.balance != "sampler":
            return None
        return class_balanced_weights(dataset, self.classes, self.multi_label)

    @property
    def multi_label(self) -> bool:
        return self.options.multi_label

    def train_transform(self) -> Any:
        options = self.options
        return lambda item: keep_labels(augment(keep_labels(item), options))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, partner, share = self.mixed(batch["image"], self.global_step)
        vectors = self.trunk(channels_last(images))[0]
        logits = self.head(self.dropout(vectors))
        loss = self.loss(logits, batch)
        if partner is not None:
            truth = {key: batch[key][partner] for key in TRUTH if key in batch}
            loss = share * loss + (1 - share) * self.loss(logits, truth)
        elif self.options.embedding_loss != "none" and (known := batch["label"] >= 0).any():
            own = self.embedding_loss(vectors[known].float(), batch["label"][known])
            self.log("embedding_loss", own)
            loss = loss + self.options.embedding_weight * own
        self.log("loss", loss, prog_bar=True)
        return loss

    def mixed(self, images: Tensor, step: int) -> tuple[Tensor, Tensor | None, float]:
        """In every other step, images mixed of two: with the places of the second, and the share of the first.

        Steps are those of the training: an epoch of a small set has just one.
        """
        ways = [(way, alpha) for way, alpha in ((mixup, self.options.mixup), (cutmix, self.options.cutmix)) if alpha]
        if not ways or step % 2 == 0:
            return images, None, 1.0
        way, alpha = ways[step // 2 % len(ways)]
        return way(images, alpha)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        options = self.options
        gamma = options.gamma if options.loss == "focal" else 0.0
        if options.multi_label:
            known = batch["has_label"]
            if not known.any():
                return logits.sum() * 0
            present = batch["present"][known]
            return sigmoid_loss(logits[known], present, self.class_weights, options.label_smoothing, gamma)
        return softmax_loss(logits, batch["label"], self.class_weights, options.label_smoothing, gamma)

    def validation_step(self, batch: Batch, index: int) -> None:
        logits = self.head(self.trunk(channels_last(batch["image"]))[0]).float()
        if self.options.multi_label:
            known = batch["has_label"]
            self._seen.append((logits[known], batch["present"][known]))
        else:
            self._seen.append((logits, batch["label"]))

    def on_validation_epoch_end(self) -> None:
        """The figure that picks the best epoch, and the temperature: a buffer, so that the best epoch's own ships."""
        logits, truth = (gather_vectors(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self._seen = []
        if not len(logits):
            score = loss = logits.new_zeros(())
            temperature = 1.0
        elif self.options.multi_label:
            score = multilabel_f1_score(logits.sigmoid(), truth.long(), num_labels=len(self.names))
            temperature = fit_binary_temperature(logits, truth)
            loss = sigmoid_loss(logits / temperature, truth, torch.ones_like(self.class_weights))
        else:
            score = macro_f1(logits, truth)
            temperature = fit_temperature(logits, truth)
            loss = softmax_loss(logits / temperature, truth, torch.ones_like(self.class_weights))
        self.temperature.fill_(temperature)
        # Where epochs are equally right, the surer one is the better.
        self.log_dict({"val_loss": loss, "val_f1": score, "val_score": score - 0.1 * loss}, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        heads = [self.head, *([self.embedding_loss] if self.options.embedding_loss != "none" else [])]
        return layerwise_optimizer(self, self.trunk, heads, int(self.trainer.estimated_stepping_batches))

    def configure_callbacks(self) -> list[Callback]:
        found: list[Callback] = [AveragedWeights(self.options.average)] if self.options.average else []
        if self.options.patience:
            # Without validation images there is nothing to stop by.
            found.append(EarlyStopping("val_score", mode="max", patience=self.options.patience, strict=False))
        return found

    def trainer_options(self) -> dict[str, Any]:
        return {"max_epochs": self.options.epochs, "gradient_clip_val": 1.0}


def make_trunk(options: NetworkOptions, channels: int) -> Trunk:
    """The network as the options want it; one that starts from random weights has nothing worth freezing."""
    trunk = Trunk(options.backbone, options.weights, channels, options.image_size, options.drop_path)
    norms = trunk.pretrained if options.freeze_norm == "auto" else options.freeze_norm
    trunk.freeze(options.freeze if trunk.pretrained else 0.0, norms)
    return trunk


def layerwise_optimizer(method: Method, trunk: Trunk, heads: list[nn.Module], *phases: int) -> dict[str, Any]:
    """AdamW with rates by layer; in each phase of so many steps, a tenth of them to warm up, then half a cosine."""
    options = method.options
    top = options.learning_rate or (PRETRAINED_RATE if trunk.pretrained else SCRATCH_RATE)
    layers = [*trunk.layers(options.first_rate), *((p, 1.0) for head in heads for p in head.parameters())]
    groups = [
        {"params": [p], "lr": top * rate, "weight_decay": options.weight_decay if p.dim() > 1 else 0}
        for p, rate in layers
    ]
    return cosine_phases(torch.optim.AdamW(groups), phases)


def macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """Of (N, K) logits and (N,) labels, those of -1 left out."""
    known = labels >= 0
    if not known.any():
        return logits.new_zeros(())
    return multiclass_f1_score(logits[known].argmax(dim=1), labels[known], num_classes=logits.shape[1])


def channels_last(images: Tensor) -> Tensor:
    """The same images, laid out so that a processor without a GPU learns from them in half the time."""
    return images.contiguous(memory_format=torch.channels_last)


def keep_labels(item: Item) -> Item:
    """What a classifier needs of an item: the masks would only cost time to move."""
    return {key: value for key, value in item.items() if key == "image" or key in TRUTH}
