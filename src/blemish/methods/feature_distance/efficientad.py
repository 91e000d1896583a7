"""EfficientAD: a small student against a small teacher, and an autoencoder for global (logical) anomalies."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, worst_share_option
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone
from blemish.methods.common.blocks import FrozenNetwork, enlarge, patch_features
from blemish.methods.common.corruption import match_grey
from blemish.methods.common.losses import hard_feature_loss
from blemish.methods.common.schedule import late_step_decay, training_batches
from blemish.methods.common.textures import AuxiliaryImages
from blemish.methods.feature_distance.pdn import autoencoder, pdn, pdn_size

MAX_FEATURES = 384
MARGIN = 4  # cells by which a patch description network's map is smaller on each side, for lack of padding


class EfficientADOptions(Options):
    batch_size: int = Field(1, ge=1, description="images in a training batch; the paper's: 1")
    size: Literal["s", "m"] = Field("s", description="the paper's small or medium patch description network")
    width: float = Field(0.5, gt=0, le=4, description="channels in parts of the paper's; paper: 1")
    backbone: str = Field(DEFAULT_BACKBONE, description="timm name of the network that the teacher is distilled from")
    weights: str = Field("auto", description="auto, embedded, imagenet, random, or a local weights file")
    strides: tuple[int, ...] = Field((8, 16), description="feature maps that the teacher is distilled from")
    distill_steps: int = Field(600, ge=1, description="steps of distilling the teacher; paper: 60000")
    steps: int = Field(800, ge=1, description="steps of training student and autoencoder; paper: 70000")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam; paper, for its long schedule: 1e-4")
    hard_share: float = Field(
        0.999, ge=0, lt=1, description="share of the feature elements left out of the loss as too easy"
    )
    images: str = Field("", description="folder of auxiliary images (such as ImageNet's); empty for generated textures")
    worst_share: float = worst_share_option(0.0)


class EfficientAD(StepMethod):
    """Batzner et al. 2024, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV.

    Kept: patch description networks S and M; a teacher distilled from a pretrained network, whose input is
    enlarged until its finest map has the size of the teacher's; teacher's channels normalised on the training images;
    hard-feature loss; penalty on the student's response to auxiliary images; autoencoder whose output the student
    learns to predict, on images of changed brightness, contrast or saturation; Adam with decay 1e-5 and the rate
    falling to a tenth at 95 % of the steps; maps scaled by the 0.9 and 0.995 quantiles of held-out good images and
    averaged; image score = maximum. Deviations: the teacher is distilled in each run, in `distill_steps` of
    `batch_size` images and with that fall of the rate (paper: WideResNet-101, ImageNet, constant rate), on auxiliary
    and training images in turn; without a folder of `images` the auxiliary ones are generated textures; the
    number of features is that of the chosen maps, at most 384; by default half the channels, few steps and a ten times
    larger rate, for a machine without a GPU. The paper's: `width=1 distill_steps=60000 steps=70000
    learning_rate=1e-4 images=FOLDER`. Where no good image is held out, the quantiles are those of the training images.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="efficientad",
        branch="feature_distance",
        title="EfficientAD",
        paper="Batzner et al. 2024, EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies",
        requires=("good",),
        answers=("where", "how much"),
        summary="Teacher, student and autoencoder of a few layers; fast on a GPU, detects logical defects too.",
        smoke={"distill_steps": 40, "steps": 40, "width": 0.2},
    )
    Options: ClassVar[type[Options]] = EfficientADOptions
    options: EfficientADOptions
    input_mean: Tensor
    input_std: Tensor
    teacher_mean: Tensor
    teacher_std: Tensor
    target_mean: Tensor
    target_std: Tensor
    quantiles: Tensor

    def __init__(self, options: EfficientADOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if options.image_size % 32 or options.image_size < 64:
            raise OptionError(f"image_size={options.image_size} must be a multiple of 32, and at least 64")
        backbone = load_backbone(options.backbone, options.weights, channels, options.strides)
        self.feature_count = min(MAX_FEATURES, sum(backbone.channels))
        self.enlarged = options.strides[0] / 4  # so that its finest map has the size of the teacher's
        self.teacher = pdn(options.size, channels, self.feature_count, options.width)
        self.student = pdn(options.size, channels, 2 * self.feature_count, options.width)
        self.autoencoder = autoencoder(channels, self.feature_count, options.image_size)
        self.auxiliary = AuxiliaryImages(options.images, channels, options.image_size)
        self.register_buffer("input_mean", backbone.mean.clone())
        self.register_buffer("input_std", backbone.std.clone())
        # Normalisation of the teacher's and of its target's channels; a zero std: not computed yet.
        for name in ("teacher_mean", "teacher_std", "target_mean", "target_std"):
            self.register_buffer(name, torch.zeros(1, self.feature_count, 1, 1))
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # of the student's, autoencoder's map
        self.source = FrozenNetwork(backbone)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.maps(images)
        scaled = [0.1 * (m - low) / (high - low) for m, (low, high) in zip(maps, self.quantiles, strict=True)]
        heat = F.pad(0.5 * scaled[0] + 0.5 * scaled[1], (MARGIN,) * 4, mode="replicate")
        return anomaly_outputs(enlarge(heat, images.shape[-2:]), worst_share=self.options.worst_share)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled (N, h, w) maps: student against teacher, and student against autoencoder."""
        inputs = self.normalize(images)
        to_teacher, to_autoencoder = self.student(inputs).split([self.feature_count, self.feature_count], dim=1)
        first = (self.normalized_teacher(inputs) - to_teacher).square().mean(dim=1)
        second = (self.autoencoder(inputs) - to_autoencoder).square().mean(dim=1)
        return first, second

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the pretrained network takes them; the small networks train faster on these too."""
        return (images - self.input_mean) / self.input_std

    def normalized_teacher(self, inputs: Tensor) -> Tensor:
        """The teacher's features of normalised images, each channel of zero mean and unit variance."""
        with torch.no_grad():
            return (self.teacher(inputs) - self.teacher_mean) / self.teacher_std

    def distillation_target(self, images: Tensor) -> Tensor:
        """The pretrained network's patch features at the locations of the teacher's map."""
        large = F.interpolate(images, scale_factor=self.enlarged, mode="bilinear", align_corners=False)
        features = patch_features(self.source(large))
        if features.shape[1] > self.feature_count:  # neighbouring channels are averaged
            pooled = F.adaptive_avg_pool1d(features.flatten(2).mT, self.feature_count)
            features = pooled.mT.unflatten(2, features.shape[2:])
        size = pdn_size(images.shape[-1])
        grid = F.interpolate(features, size=(size + 2 * MARGIN,) * 2, mode="bilinear", align_corners=False)
        return grid[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]

    def on_train_start(self) -> None:
        if not bool(self.target_std.any()):
            images = (x for b in training_batches(self) for x in (b["image"], self.auxiliary_images(b["image"])))
            self.target_mean, self.target_std = channel_statistics(self.distillation_target(x) for x in images)

    def compute_loss(self, batch: Batch) -> Tensor:
        if self.global_step < self.options.distill_steps:
            return self._distillation_loss(batch["image"])
        if not bool(self.teacher_std.any()):
            self.teacher.eval().requires_grad_(False)
            with torch.no_grad():
                maps = (self.teacher(self.normalize(b["image"])) for b in training_batches(self))
                self.teacher_mean, self.teacher_std = channel_statistics(maps)
        return self._student_loss(batch["image"])

    def _distillation_loss(self, images: Tensor) -> Tensor:
        inputs = self.auxiliary_images(images) if self.global_step % 2 == 0 else images
        target = (self.distillation_target(inputs) - self.target_mean) / self.target_std
        return F.mse_loss(self.teacher(self.normalize(inputs)), target)

    def _student_loss(self, images: Tensor) -> Tensor:
        inputs, auxiliary, jittered = map(self.normalize, (images, self.auxiliary_images(images), jitter(images)))
        to_teacher = self.student(inputs)[:, : self.feature_count]
        hard = hard_feature_loss((self.normalized_teacher(inputs) - to_teacher).square(), self.options.hard_share)
        penalty = self.student(auxiliary)[:, : self.feature_count].square().mean()
        reconstructed = self.autoencoder(jittered)
        to_autoencoder = self.student(jittered)[:, self.feature_count :]
        autoencoder_loss = F.mse_loss(reconstructed, self.normalized_teacher(jittered))
        student_loss = F.mse_loss(to_autoencoder, reconstructed)
        return hard + penalty + autoencoder_loss + student_loss

    def auxiliary_images(self, images: Tensor) -> Tensor:
        """Auxiliary images, one for each image, grey where the images are."""
        return match_grey(self.auxiliary.sample(len(images)).to(self.device), images)

    @torch.no_grad()
    def after_training(self, good: Iterable[Batch]) -> None:
        self.eval()
        batches = [self.maps(batch["image"].to(self.device)) for batch in good]
        for i, maps in enumerate(zip(*batches, strict=True)):
            ordered = torch.cat([m.flatten() for m in maps]).sort().values
            low, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.9, 0.995))
            self.quantiles[i] = torch.stack([low, high.clamp(min=low + 1e-6)])

    def configure_optimizers(self) -> Any:
        trained = [*self.teacher.parameters(), *self.student.parameters(), *self.autoencoder.parameters()]
        optimizer = torch.optim.Adam(trained, lr=self.options.learning_rate, weight_decay=1e-5)
        return late_step_decay(optimizer, self.options.distill_steps, self.options.steps)

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": self.options.distill_steps + self.options.steps}


def channel_statistics(maps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all (N, C, h, w) maps: twice (1, C, 1, 1)."""
    count, first, second = 0, torch.zeros(()), torch.zeros(())
    for m in maps:
        values = m.double()
        count += m.shape[0] * m.shape[2] * m.shape[3]
        first, second = first + values.sum(dim=(0, 2, 3)), second + values.square().sum(dim=(0, 2, 3))
    mean = first / count
    std = (second / count - mean.square()).clamp(min=1e-12).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def jitter(images: Tensor) -> Tensor:
    """Images with either brightness, contrast or saturation, chosen at random, changed by up to a fifth."""
    factor = float(torch.empty(()).uniform_(0.8, 1.2))
    kind = int(torch.randint(3, ()))
    if kind == 0:
        plain = torch.zeros_like(images)
    elif kind == 1:
        plain = images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images)
    else:
        plain = images.mean(dim=1, keepdim=True).expand_as(images)
    return (factor * images + (1 - factor) * plain).clamp(0, 1)
