"""Deblurring: a network trained on the fine detail of good images cannot restore that of a defect."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from blemish.methods.base import MethodInfo, Options
from blemish.methods.common.blocks import GaussianBlur
from blemish.methods.common.losses import msgms_map
from blemish.methods.restoration.restoration import Restoration, RestorationOptions


class DeblurringOptions(RestorationOptions):
    sigma: float = Field(6.0, gt=0, description="of the Gaussian that blurs the image, in px of the network's input")


class Deblurring(Restoration):
    """The denoising autoencoder of Kascenas et al. 2022 with artificial blur for the corruption.

    A U-Net learns to undo a Gaussian of fixed sigma on good images, in L2. Unlike noise, the blur is applied in
    inspection too: it removes the defect's detail, and the network restores the good one. Not from a paper of its own:
    the map is the multi-scale gradient magnitude distance of RIAD (Zavrtanik et al. 2021), since gradients are what is
    lost and restored; the border is mirrored; the map is standardised by held-out good images, and its maximum is the
    image score.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="deblurring",
        branch="restoration",
        title="Deblurring",
        paper="after Kascenas et al. 2022, Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI",
        requires=("good",),
        answers=("where", "how much"),
        summary="A U-Net learns to sharpen blurred good images; detects fine defects, not large soft ones.",
        smoke={"steps": 30, "width": 4},
        never_advised="a variant of denoising-autoencoder, which is advised",
    )
    Options: ClassVar[type[Options]] = DeblurringOptions
    options: DeblurringOptions

    def __init__(self, options: DeblurringOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.corruption = GaussianBlur(options.sigma)

    def corrupt(self, images: Tensor) -> Tensor:
        return self.corruption(images.flatten(0, 1)).view(images.shape)

    def difference(self, images: Tensor) -> Tensor:
        return msgms_map(images, self.restore(images))
