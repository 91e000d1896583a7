"""What every method is: a Lightning module whose `forward` is the graph that ships."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Need = Literal["good", "label", "mask", "boxes", "template"]
Answer = Literal["what", "where", "how much"]
# What the data loader gives: "image" (N, C, H, W) float32 with full scale 1, "valid" (N, H, W) bool, False where a
# pixel is outside the ROI or ignored, "label" (N,) int64 index into the classes (-1 unknown), "mask" (N, H, W) bool,
# "boxes" list of (M, 5) float32 x0 y0 x1 y1 defect-class index, "template" (N, C, H, W) where the data has them.
Batch = dict[str, Any]


@dataclass(frozen=True)
class MethodInfo:
    """What a user and the advisor need to know of a method."""

    name: str
    branch: str
    title: str
    paper: str
    needs: tuple[Need, ...]
    answers: tuple[Answer, ...]
    summary: str


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

    def __init__(self, options: Options, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__()
        self.options = options
        self.classes = classes
        self.channels = channels

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs by name."""

    def trainer_options(self) -> dict[str, Any]:
        """What this method asks of the Lightning Trainer, such as max_epochs or max_steps."""
        return {"max_epochs": 1}

    def after_training(self, good: Iterable[Batch]) -> None:
        """Called once when training is over, with good images held out from it (the training ones where none are).

        For what must be measured on images that were not learnt from, such as the scale of a map.
        """

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
