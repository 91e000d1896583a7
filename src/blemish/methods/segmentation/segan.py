"""SegAN: a segmentation network and a critic that compares the image under the true and the predicted mask."""

import itertools
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from pydantic import Field
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from blemish.methods.base import Batch, MethodInfo
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.segmentation.segmenter import SMOKE
from blemish.methods.segmentation.unet import UNet, UNetOptions

SLOPE = 0.2  # of the critic's leaky ReLU


class SegANOptions(UNetOptions):
    adversarial: float = Field(
        20.0,
        ge=0,
        description="weight of the critic's distance, with about a tenth of the pixel losses' gradient",
    )
    supervised: float = Field(1.0, ge=0, description="weight of the pixel losses; paper: 0")
    critic_width: int = Field(32, ge=1, description="channels of the critic's first layer, doubled twice; paper: 64")
    critic_rate: float = Field(2e-4, gt=0, description="the critic's learning rate")
    clip: float = Field(0.05, gt=0, description="largest weight of the critic, to either side")


class SegAN(UNet):
    """Xue et al. 2018, "SegAN: Adversarial Network with Multi-scale L1 Loss for Medical Image Segmentation",
    Neuroinformatics.

    Kept: the critic sees the image masked by the true and by the predicted mask; its distance is the mean absolute
    difference of its features, averaged over all its layers and the masked pixels themselves; the critic learns to
    enlarge it, with clipped weights, and the segmentation network to shrink it, in turns. One critic sees the masked
    images of all classes as further channels (the paper's S1-1C). Deviations: the generator is the `unet` of this
    package, so that the gain over it can be measured; its pixel losses remain, without which few labelled images do not
    suffice; both masked images pass the critic as one batch, so that its BatchNorm shifts them alike; AdamW for the
    critic too.

    Semi-balanced: good images are part of the training as they are part of production, but a share `defect_share` of
    the sampled images is defective, and classes are sampled half-way between their frequency and equally. Both
    networks see the same batches, so the critic cannot exploit the frequency of defects.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="segan",
        branch="segmentation",
        title="SegAN",
        paper="Xue et al. 2018, SegAN: Adversarial Network with Multi-scale L1 Loss for Medical Image Segmentation",
        requires=("mask",),
        answers=("what", "where", "how much"),
        summary="A U-Net trained with a critic of its masks as well; exports the same graph as a U-Net.",
        smoke={**SMOKE, "steps": 35, "width": 8, "critic_width": 4},
    )
    Options: ClassVar[type[UNetOptions]] = SegANOptions
    options: SegANOptions

    def __init__(self, options: SegANOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.automatic_optimization = False
        self.critic = Critic(channels * len(self.defect_classes), options.critic_width)

    def training_step(self, batch: Batch, index: int) -> None:
        optimizer, critic_optimizer = cast(list[LightningOptimizer], self.optimizers())
        batch, _, _ = self.mixed(batch, self.global_step // 2)  # Lightning counts the steps of both optimisers
        images = batch["image"]
        known = (batch["valid"] & batch["has_mask"][:, None, None])[:, None].float()
        logits = self.network(images)
        predicted = mask_images(images, self.probabilities(logits) * known)
        true = mask_images(images, self.target(batch)[:, -len(self.defect_classes) :] * known)

        # The critic's own gradients of this step are not used.
        adversarial = self.critic.distance(predicted, true)
        supervised = self.pixel_loss(logits, batch)
        optimizer.zero_grad()
        self.manual_backward(self.options.adversarial * adversarial + self.options.supervised * supervised)
        optimizer.step()

        critic_optimizer.zero_grad()
        distance = self.critic.distance(predicted.detach(), true)
        self.manual_backward(-distance)
        critic_optimizer.step()
        self.critic.clip(self.options.clip)
        self._step_schedulers()
        self.log_dict({"loss": supervised, "distance": distance}, prog_bar=True)

    def _step_schedulers(self) -> None:
        schedules = self.lr_schedulers()
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            assert isinstance(schedule, LRScheduler)
            schedule.step()

    def configure_optimizers(self) -> Any:
        critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=self.options.critic_rate, weight_decay=0.0)
        return [super().configure_optimizers(), cosine_decay(critic_optimizer, self.options.steps)]

    def trainer_options(self) -> dict[str, Any]:
        return {"max_steps": 2 * self.options.steps}  # Lightning counts the steps of both optimisers


class Critic(nn.Module):
    """Convolutions of stride 2 over masked images (N, C, H, W), which are compared at every layer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList()
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            norm = [nn.BatchNorm2d(after)] if number else []
            self.layers.append(nn.Sequential(nn.Conv2d(before, after, 4, 2, 1), *norm, nn.LeakyReLU(SLOPE)))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean absolute difference at each layer, the pixels the first, averaged over the layers."""
        count = len(a)
        x = torch.cat([a, b])
        distances = [(x[:count] - x[count:]).abs().mean()]
        for layer in self.layers:
            x = layer(x)
            distances.append((x[:count] - x[count:]).abs().mean())
        return torch.stack(distances).mean()

    @torch.no_grad()
    def clip(self, limit: float) -> None:
        for parameter in self.parameters():
            parameter.clamp_(-limit, limit)


def mask_images(images: Tensor, masks: Tensor) -> Tensor:
    """Images (N, C, H, W) times each of the masks (N, D, H, W): (N, D * C, H, W)."""
    return (images[:, None] * masks[:, :, None]).flatten(1, 2)
