"""STFPM: a student learns to reproduce a teacher's features of good images; it fails to on a defect."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, sum_of_means, worst_share_option
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, GaussianBlur, enlarge
from blemish.methods.common.losses import squared_unit_distance


class STFPMOptions(Options):
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the teacher, and of the student's architecture")
    weights: str = Field("auto", description="the teacher's: auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field((4, 8, 16), description="feature maps compared, finest first")
    steps: int = Field(600, ge=1, description="training steps; the paper's 100 epochs of 209 images, 32 a batch: 700")
    learning_rate: float = Field(0.4, gt=0, description="of the gradient descent with momentum 0.9")
    blur: float = blur_option(4.0)
    worst_share: float = worst_share_option(0.01)


class STFPM(StepMethod):
    """Wang et al. 2021, "Student-Teacher Feature Pyramid Matching for Anomaly Detection" (STFPM), BMVC.

    Kept: student of the teacher's own architecture with random weights, half the squared distance of features of unit
    length at three scales, stochastic gradient descent at a constant rate (0.4, momentum 0.9, decay 1e-4), map =
    product of the enlarged maps. Deviations: a lighter default backbone (the paper's is `backbone=resnet18`); the map
    is smoothed, and the mean of its worst hundredth is the image score: unit features of a plain background are noise,
    and the maximum of a good image lies there (the paper's: `blur=0 worst_share=0`).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="stfpm",
        branch="feature_distance",
        title="STFPM",
        paper="Wang et al. 2021, Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC",
        requires=("good",),
        answers=("where", "how much"),
        summary="A student network reproduces a teacher's features of good images; fast to run, small to ship.",
        smoke={"steps": 40},
    )
    Options: ClassVar[type[Options]] = STFPMOptions
    options: STFPMOptions
    falling_rate = False

    def __init__(self, options: STFPMOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.teacher = FrozenNetwork(load_backbone(options.backbone, options.weights, channels, options.strides))
        self.student = load_backbone(options.backbone, "random", channels, options.strides)
        self.blur = GaussianBlur(options.blur)

    def distances(self, images: Tensor, numbers: Tensor | None = None) -> list[Tensor]:
        """(N, h, w) distance of student and teacher for each scale; the teacher's features are kept by `numbers`."""
        pairs = zip(self.student(images), self.teacher(images, numbers), strict=True)
        return [squared_unit_distance(s, t) for s, t in pairs]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [enlarge(m, images.shape[-2:]) for m in self.distances(images)]
        return anomaly_outputs(self.blur(torch.stack(maps).prod(dim=0)), worst_share=self.options.worst_share)

    def compute_loss(self, batch: Batch) -> Tensor:
        return sum_of_means(self.distances(batch["image"], batch.get("number")), batch["valid"])

    def make_optimizer(self) -> Optimizer:
        rate = self.options.learning_rate
        return torch.optim.SGD(self.student.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
