"""Cascade: good or defective first, then the kind of defect: two heads on one network, trained one after the other."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import DataError
from blemish.methods.base import Batch, MethodInfo, pad_to_two
from blemish.methods.classification.class_balance import class_counts, effective_number_weights
from blemish.methods.classification.classifier import (
    NetworkOptions,
    TrunkMethod,
    channels_last,
    layerwise_optimizer,
    macro_f1,
)
from blemish.methods.classification.losses import class_activation_map, softmax_loss
from blemish.methods.classification.temperature import fit_temperature


class CascadeOptions(NetworkOptions):
    first_epochs: int = Field(6, ge=1, description="epochs of training good against defective")
    head_epochs: int = Field(2, ge=0, description="then epochs in which only the heads are trained")
    part_epochs: int = Field(2, ge=0, description="then epochs with the last third of the network unfrozen")
    whole_epochs: int = Field(4, ge=0, description="then epochs with all of it unfrozen")


class Cascade(TrunkMethod):
    """Two classification heads on one network: is there a defect, and if so, which?

    The scheme that Tao, Hou & Xu 2021 describe for several kinds of defect: the network is first trained on the easy
    question, for which there are most images, with its own head. Then a second head is trained on the kinds, from the
    defective images only, first on the frozen network, then with its last third, then with all of it unfrozen (Howard
    & Ruder 2018), while training of the first head continues. The good images, most of an unbalanced set, have no
    influence on the kind. The probability of a kind is that of a defect times that of the kind among defects. One
    temperature, fitted on the images for tuning, serves both heads.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="cascade",
        branch="classification",
        title="Cascade",
        paper="Tao, Hou & Xu 2021, A Survey of Surface Defect Detection Methods Based on Deep Learning, Acta "
        "Automatica Sinica; Howard & Ruder 2018, Universal Language Model Fine-tuning, ACL",
        requires=("good", "label"),
        min_defect_classes=2,
        answers=("what", "where"),
        summary="Good or defective first, then the kind, on one network; where few defective parts may pass.",
        smoke={"backbone": "compact", "first_epochs": 6, "head_epochs": 1, "part_epochs": 1, "whole_epochs": 2},
    )
    Options: ClassVar[type[CascadeOptions]] = CascadeOptions
    options: CascadeOptions

    def __init__(self, options: CascadeOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        kinds = len(self.defect_classes)
        self.frozen_first = self.trunk.frozen_layers
        self.first = nn.Linear(self.trunk.size, 2)  # good, defective
        self.second = nn.Linear(self.trunk.size, max(kinds, 1))
        self.register_buffer("first_weights", torch.ones(2))
        self.register_buffer("second_weights", torch.ones(max(kinds, 1)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        vectors, maps = self.trunk(images)
        outputs = {"class_scores": (self.logits(vectors) / self.temperature).softmax(dim=1)}
        if maps is not None:
            defect = class_activation_map(maps, self.first.weight, 0)[:, 1:]
            kinds = class_activation_map(maps, self.second.weight, None)
            outputs["class_map"] = torch.cat([torch.zeros_like(defect), defect + kinds], dim=1)
        return outputs

    def logits(self, vectors: Tensor) -> Tensor:
        """(N, K) log-probabilities of good and of each kind of defect."""
        first, second = self.first(vectors).float(), self.second(vectors).float()
        first, second = F.log_softmax(first, dim=1), F.log_softmax(second, dim=1)
        return torch.cat([first[:, :1], first[:, 1:] + second], dim=1)

    def before_training(self, dataset: Dataset) -> None:
        if self.classes[0] != GOOD or len(self.classes) < 3:
            raise DataError(
                "cascade classifies good against defective, then two or more kinds of defect, and training has "
                f"{', '.join(self.classes)}; use the method classifier"
            )
        counts = class_counts(dataset, self.classes)
        if self.options.balance == "weights":
            self.first_weights = effective_number_weights([counts[0], sum(counts[1:])], self.options.beta)
            self.second_weights = effective_number_weights(counts[1:], self.options.beta)

    @property
    def frozen_share(self) -> float:
        """The share of the network that is frozen in the current epoch."""
        options, done = self.options, self.current_epoch - self.options.first_epochs
        if done < 0 or done >= options.head_epochs + options.part_epochs:
            return self.frozen_first
        return 1.0 if done < options.head_epochs else max(2 / 3, self.frozen_first)

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        # Not at the start of an epoch, which does not come again where a training is resumed within it.
        if self.trunk.frozen_layers != self.frozen_share:
            self.trunk.freeze(self.frozen_share, self.trunk.frozen_norms)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        batch = pad_to_two(batch)
        vectors = self.dropout(self.trunk(channels_last(batch["image"]))[0])
        labels, smoothing = batch["label"], self.options.label_smoothing
        defective = torch.where(labels < 0, labels, (labels > 0).long())
        loss = softmax_loss(self.first(vectors), defective, self.first_weights, smoothing, self.gamma)
        if self.current_epoch >= self.options.first_epochs:
            kind = torch.where(labels < 0, labels, labels - 1)  # good becomes -1, which is ignored
            loss = loss + softmax_loss(self.second(vectors), kind, self.second_weights, smoothing, self.gamma)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validation.add(self.logits(self.trunk(channels_last(batch["image"]))[0]), batch["label"])

    def on_validation_epoch_end(self) -> None:
        logits, labels = self.validation.gather()
        self.temperature.fill_(fit_temperature(logits, labels))
        loss = softmax_loss(logits / self.temperature, labels, torch.ones_like(logits[0]))
        self.log_validation(macro_f1(logits, labels), loss)

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        first = round(steps * self.options.first_epochs / self.epochs)
        return layerwise_optimizer(self.options, self.trunk, [self.first, self.second], first, steps - first)

    @property
    def epochs(self) -> int:
        options = self.options
        return options.first_epochs + options.head_epochs + options.part_epochs + options.whole_epochs

    def trainer_options(self) -> dict[str, Any]:
        return {"max_epochs": self.epochs, "gradient_clip_val": 1.0}
