"""The contract of all methods: a Lightning module whose `forward` is the graph that ships."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from blemish.dataset.sample import GOOD, Dataset
from blemish.inspection.manifest import SupportSet

Requirement = Literal["good", "label", "mask", "boxes", "template"]
Answer = Literal["what", "where", "how much"]
# An item is what the data loader yields for one image; a batch stacks items (lists stay lists). The keys:
# "image" (C, H, W) float32 with full scale 1; "valid" (H, W) bool, False where a pixel is outside the ROI or ignored,
# or, where masks or boxes teach the classes of defects, belongs to a defect of unknown class;
# "label" int64 index into the classes, -1 unknown; "mask" (H, W) bool, defect pixels, valid where "has_mask" is True;
# "defective" int64: 1 the view contains a defect, 0 it contains none, -1 unknown.
# "number" int64 of a training image, or -1 where a random change was made to it (not in all batches).
# Where all images have reference images: "template" (C, H, W), and "differs" (H, W) bool, known defects.
# Where a method requires labels: "present" (D,) bool, the defect classes in the image, valid where "has_label" is True;
# "label" is -1 where there are several.
# Where masks are required or optional: "mask_labels" (H, W) int64, 0 no defect, 1 + index of the defect class.
# Where boxes are required or optional: "boxes" (M, 5) float32 x0 y0 x1 y1 index of the defect class, and "has_boxes".
# Where both are: "box_masks" (M, H, W) bool, the pixels of each box's defect.
Item = dict[str, Any]
Batch = dict[str, Any]


def pad_to_two(batch: Batch) -> Batch:
    """Repeat the image of a batch of one: BatchNorm cannot train on a single value per channel."""
    if len(batch["image"]) != 1:
        return batch
    return {key: value * 2 if isinstance(value, list) else torch.cat([value, value]) for key, value in batch.items()}


@dataclass(frozen=True)
class MethodInfo:
    """A method's declaration, for users and for the advisor."""

    name: str
    branch: str
    title: str
    paper: str
    requires: tuple[Requirement, ...]
    answers: tuple[Answer, ...]
    summary: str
    optional: tuple[Requirement, ...] = ()  # annotations that it also uses where some images have them
    min_defect_classes: int = 0  # in training
    smoke: Mapping[str, Any] = field(default_factory=dict)  # options with which it learns 28 small images in seconds
    never_advised: str | None = None  # why no rule of the advisor names it


def ignored_when(option: str, *values: Any) -> dict[str, Any]:
    """`json_schema_extra` of an option that has no effect while another option has one of these values."""
    return {"ignored_when": {option: list(values)}}


def graph_score_only(*values: Any) -> dict[str, Any]:
    """`json_schema_extra` of an option of which these values choose an image score that is not the map's.

    They have no effect where the score is that of the map's valid pixels: with a letterbox, an ROI or masks.
    """
    return {"graph_score_only": list(values)}


class Options(BaseModel):
    """Options common to all methods; each method adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(256, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(16, ge=1, description="images in a training batch")


class Method(L.LightningModule, ABC):
    """Base class of all methods.

    `forward(images)` takes (N, C, H, W) float32 with full scale 1 and returns a dict of raw outputs, named and shaped
    as in `blemish.inspection.result.Outputs`. Pre-processing beyond that is part of the graph.
    """

    info: ClassVar[MethodInfo]
    Options: ClassVar[type[Options]] = Options
    # A metric that `validation_step` logs, higher is better: the weights of its best epoch are the ones that ship.
    monitor: ClassVar[str | None] = None
    # Whether the classes of `mask_scores` exclude each other, so that their sum is the probability of any defect.
    exclusive_classes: ClassVar[bool] = False

    def __init__(
        self,
        options: Options,  # type: ignore[valid-type]
        classes: tuple[str, ...],
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.options = options
        self.classes = classes
        self.channels = channels

    @property
    def defect_classes(self) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name != GOOD)

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs by name."""

    @property
    def worst_share(self) -> float:
        """Share of the map, the worst, whose mean is the image score where that is the map's; 0: its maximum."""
        return float(getattr(self.options, "worst_share", 0.0))

    @property
    def uses_template(self) -> bool:
        """Whether the exported graph also takes a reference image: `forward(images, template)`."""
        return False

    @property
    def multi_label(self) -> bool:
        """Whether it trains on images with several class labels."""
        return False

    def trainer_options(self) -> dict[str, Any]:
        """Arguments for the Lightning Trainer, such as max_epochs or max_steps."""
        return {"max_epochs": 1}

    def before_training(self, dataset: Dataset) -> None:
        """Called once with the training images, before training starts: for class counts, anchors and the like.

        Whatever is kept belongs in buffers, so that saved weights restore it.
        """

    def train_transform(self) -> Callable[[Item], Item] | None:
        """Random augmentation of each training item, applied in the data loader; None: no augmentation."""
        return None

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        """Sampling weight of each training image; None: each image once per epoch."""
        return None

    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        """Called once after the last step, before `after_training`, with the `count` training images, not augmented.

        For what is computed from the trained network and ships with it: a gallery, a bank, class means. Lightning's
        `on_train_end` is no place for that: it is not called where a training is resumed after its last step.
        """

    def before_sampling(self, dataset: Dataset, weights: list[float]) -> None:
        """Called once before training on real images with sampling weights: a sample for each item of known class, and
        its weight. Items are images, windows or tiles."""

    def after_training(self, good: Iterable[Batch]) -> None:
        """Called once after training, with the good images held out for tuning (training images where there are none).

        A method of one pass gets those it was trained on as well. No threshold is chosen by them, and none is chosen on
        an image that was here.

        For quantities that must be measured on images not used for training, such as the scale of a map.
        """

    def support_set(self) -> tuple[SupportSet, NDArray[np.float32]] | None:
        """Support set of a method that classifies by examples and outputs an "embedding": its rule and vectors (S, E).

        It ships with the graph, so that `blemish enroll` can add to it.
        """
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # Learned buffers (memory banks, statistics) get their size from the data, so they are empty in a new method.
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != buffer.shape:
                setattr(self, name, torch.empty_like(stored, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class OnePassMethod(Method):
    """A method that passes over the training images once, collects features, and computes its buffers in `finish`."""

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False

    def configure_optimizers(self) -> None:
        return None

    def on_train_start(self) -> None:
        self.eval()  # BatchNorm statistics of a frozen network must not move

    @abstractmethod
    def finish(self) -> None:
        """Compute the learned buffers from the collected features."""

    def on_train_epoch_end(self) -> None:
        self.finish()
