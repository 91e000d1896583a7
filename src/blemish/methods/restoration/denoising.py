"""Denoising autoencoder: a network that removes coarse noise from good images removes defects too."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from blemish.methods.base import MethodInfo, Options
from blemish.methods.common.anomaly import residual_map
from blemish.methods.common.corruption import coarse_noise
from blemish.methods.restoration.restoration import Restoration, RestorationOptions


class DenoisingOptions(RestorationOptions):
    batch_size: int = Field(8, ge=1, description="images in a training batch; paper: 16")
    cells: int = Field(16, ge=2, description="grid along a side on which the noise is sampled, before it is enlarged")
    noise: float = Field(0.2, gt=0, description="standard deviation of the noise; full scale 1")
    width: int = Field(16, ge=1, description="channels of the U-Net's first level, doubled at each next; paper: 64")
    steps: int = Field(800, ge=1, description="training steps; paper: 67200")


class DenoisingAutoencoder(Restoration):
    """Kascenas et al. 2022, "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL.

    Kept: U-Net with skips; Gaussian noise of deviation 0.2 sampled on 16 x 16 cells and enlarged, at a random shift; L2
    loss against the clean image; Adam (AMSGrad) with the rate falling along a cosine; no noise in inspection; map =
    absolute residual. Deviations: BatchNorm and ReLU; a quarter of the width and few steps; noise everywhere and not
    only on the object; the border is mirrored; a Gaussian for the paper's median filter; the map is standardised by
    held-out good images (`standardise=none`: the paper's), and its maximum is the image score (the paper scores
    pixels).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="denoising-autoencoder",
        branch="restoration",
        title="Denoising autoencoder",
        paper="Kascenas et al. 2022, Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI, MIDL",
        requires=("good",),
        answers=("where", "how much"),
        summary="A U-Net learns to remove coarse noise and removes defects with it.",
        smoke={"steps": 40, "width": 4},
    )
    Options: ClassVar[type[Options]] = DenoisingOptions
    options: DenoisingOptions

    def corrupt(self, images: Tensor) -> Tensor:
        return coarse_noise(images, self.options.cells, self.options.noise)

    def difference(self, images: Tensor) -> Tensor:
        return residual_map(images, self.network(images))
