"""What every method is: a Lightning module whose `forward` is the graph that ships."""

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
from blemish.inspection.manifest import Support

Requirement = Literal["good", "label", "mask", "boxes", "template"]
Answer = Literal["what", "where", "how much"]
# What the data loader gives of an image, and stacked (lists stay lists) of a batch:
# "image" (C, H, W) float32 with full scale 1; "valid" (H, W) bool, False where a pixel is outside the ROI or ignored;
# "label" int64 index into the classes, -1 unknown; "mask" (H, W) bool, defect pixels, where "has_mask" says that they
# are known; "defective" int64, 1 where what is seen shows a defect, 0 where it shows none, -1 unknown.
# Where all images have templates: "template" (C, H, W), and "differs" (H, W) bool, known defects.
# Where a method needs labels: "present" (D,) bool, the defect classes that the image shows, where "has_label" says that
# they are known; "label" is -1 where there are several.
# Where a method needs or takes masks: "mask_labels" (H, W) int64, 0 no defect, 1 + index of the defect class.
# Where it needs or takes boxes: "boxes" (M, 5) float32 x0 y0 x1 y1 index of the defect class, and "has_boxes".
# Where it does both: "box_masks" (M, H, W) bool, the pixels of each box's defect.
Item = dict[str, Any]
Batch = dict[str, Any]


def pad_to_two(batch: Batch) -> Batch:
    """A batch of one image as that image twice: BatchNorm cannot learn from a single value a channel."""
    if len(batch["image"]) != 1:
        return batch
    return {key: value * 2 if isinstance(value, list) else torch.cat([value, value]) for key, value in batch.items()}


@dataclass(frozen=True)
class MethodInfo:
    """What a user and the advisor need to know of a method."""

    name: str
    branch: str
    title: str
    paper: str
    requires: tuple[Requirement, ...]
    answers: tuple[Answer, ...]
    summary: str
    optional: tuple[Requirement, ...] = ()  # annotations that it also uses where some images have them
    smoke: Mapping[str, Any] = field(default_factory=dict)  # options with which it learns 28 small images in seconds
    never_advised: str | None = None  # why no rule of the advisor names it


def ignored_when(option: str, *values: Any) -> dict[str, Any]:
    """Of an option that has no effect where another has one of these values: the field's `json_schema_extra`."""
    return {"ignored_when": {option: list(values)}}


class Options(BaseModel):
    """Options common to all methods; each method adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(256, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(16, ge=1, description="images in a training batch")


class Method(L.LightningModule, ABC):
    """A way to find defects.

    `forward(images)` takes (N, C, H, W) float32 with full scale 1 and returns a dict of raw outputs, named and shaped
    as in `blemish.inspection.result.Outputs`. Pre-processing beyond that is part of the graph.
    """

    info: ClassVar[MethodInfo]
    Options: ClassVar[type[Options]] = Options
    # A figure that `validation_step` logs, higher is better: the weights of its best epoch are the ones that ship.
    monitor: ClassVar[str | None] = None

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
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
    def uses_template(self) -> bool:
        """Whether the graph that ships takes a template beside the image: `forward(images, template)`."""
        return False

    @property
    def multi_label(self) -> bool:
        """Whether it learns from images of which several classes are told."""
        return False

    def trainer_options(self) -> dict[str, Any]:
        """What this method asks of the Lightning Trainer, such as max_epochs or max_steps."""
        return {"max_epochs": 1}

    def before_training(self, dataset: Dataset) -> None:
        """Called once with the training images, before they are learnt from: for class counts, anchors and the like.

        What is kept of it belongs into buffers, so that saved weights bring it back.
        """

    def train_transform(self) -> Callable[[Item], Item] | None:
        """What changes each training item at random, in the data loader; None: nothing does."""
        return None

    def sampling_weights(self, dataset: Dataset) -> list[float] | None:
        """How often each training image is drawn, one weight an image; None: each once an epoch."""
        return None

    def after_training(self, good: Iterable[Batch]) -> None:
        """Called once when training is over, with good images held out from it (the training ones where none are).

        For what must be measured on images that were not learnt from, such as the scale of a map.
        """

    def support_set(self) -> tuple[Support, NDArray[np.float32]] | None:
        """For a method that knows its classes by examples and gives an "embedding": how, and their vectors (S, E).

        They ship beside the graph, so that `blemish enroll` can add to them.
        """
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # Learned buffers (memory banks, statistics) get their size from the data, so a fresh method has them empty.
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != buffer.shape:
                setattr(self, name, torch.empty_like(stored, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class OnePassMethod(Method):
    """A method that sees the training images once, collects what it needs, and finishes with `finish`."""

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False

    def configure_optimizers(self) -> None:
        return None

    def on_train_start(self) -> None:
        self.eval()  # BatchNorm statistics of a frozen network must not move

    @abstractmethod
    def finish(self) -> None:
        """Turn what was collected into the learned buffers."""

    def on_train_epoch_end(self) -> None:
        self.finish()
