"""Patch-SVDD: patches are embedded so that neighbours are close together; far from all good patches is a defect."""

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.methods.base import Batch, MethodInfo, Options
from blemish.methods.common.anomaly import StepMethod, anomaly_outputs, blur_option, worst_share_option
from blemish.methods.common.blocks import GaussianBlur, enlarge, flatten_maps, valid_patches
from blemish.methods.common.distributed import gather_vectors
from blemish.methods.feature_distance.coreset import k_center_greedy
from blemish.methods.feature_distance.nearest import nearest_distance

SMALL = 32  # px, side of the patches of the finer level
SIDES = (SMALL, 2 * SMALL)  # of both levels
# px: a larger patch in the middle with a whole neighbour on every side, three quarters and an eighth of a side away. In
# a smaller image neighbours are pushed back inside, and the directions that the classifier learns are wrong.
MIN_IMAGE_SIZE = 2 * SMALL + 2 * (3 * 2 * SMALL // 4 + 2 * SMALL // 8)
# Directions of a neighbouring patch, rows and columns, which the classifier predicts.
DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
MAX_COLLECTED = 200_000  # embeddings in memory before the bank is chosen


class PatchSVDDOptions(Options):
    batch_size: int = Field(16, ge=1, description="images in a training batch")
    dimensions: int = Field(64, ge=1, description="dimensions of an embedding")
    patches: int = Field(1, ge=1, description="patches from each image of a batch, for each level and loss")
    svdd_weight: float = Field(1e-3, ge=0, description="weight of the one-class loss against the self-supervised one")
    map_stride: int = Field(4, ge=2, description="spacing of the embedded patches in px; even")
    bank: int = Field(4096, ge=1, description="good embeddings kept for each level, a k-centre coreset")
    steps: int = Field(1000, ge=1, description="training steps; the paper trains some 100000")
    learning_rate: float = Field(5e-4, gt=0, description="of Adam; paper, for its long schedule: 1e-4")
    blur: float = blur_option(4.0)
    worst_share: float = worst_share_option(0.0)


class PatchSVDD(StepMethod):
    """Yi & Yoon 2020, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV.

    Kept: the hierarchical encoder from scratch (32 px patches, and 64 px patches as four of them), the one-class
    loss that pulls jittered neighbours together, the self-supervised task of predicting in which of eight directions a
    neighbouring patch is, distance to the nearest good embedding at both levels, product of the two maps, image score
    = its maximum. Both encoders have only unpadded convolutions, so the whole image is embedded at once, with the same
    results as patch by patch. Deviations: neighbours are three quarters of a side away, an eighth more or less (the
    authors' code: three quarters to a whole side, straight or diagonal); a bank of `bank` embeddings (a k-centre
    coreset) for all of them, patches every `map_stride` px at both levels, fewer steps at a higher rate that falls
    along a cosine, a final Gaussian.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="patch-svdd",
        branch="one_class",
        title="Patch-SVDD",
        paper="Yi & Yoon 2020, Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation, ACCV",
        requires=("good",),
        answers=("where", "how much"),
        summary="Patch embeddings trained on good images only, without any pretrained network; slow to train.",
        smoke={"image_size": 192, "steps": 30, "patches": 1, "bank": 500},
    )
    Options: ClassVar[type[Options]] = PatchSVDDOptions
    options: PatchSVDDOptions
    small_bank: Tensor
    large_bank: Tensor

    def __init__(self, options: PatchSVDDOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        if options.map_stride % 2:
            raise OptionError(f"map_stride={options.map_stride} must be even")
        if options.image_size < MIN_IMAGE_SIZE:
            raise OptionError(
                f"image_size={options.image_size} is too small: patches of {2 * SMALL} px with a neighbour on every "
                f"side need {MIN_IMAGE_SIZE}"
            )
        self.small = SmallEncoder(channels, options.dimensions)
        self.large = LargeEncoder(options.dimensions)
        self.directions = nn.ModuleList(DirectionClassifier(options.dimensions) for _ in range(2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                nn.init.zeros_(module.get_parameter("bias"))
        self.blur = GaussianBlur(options.blur)
        for name in ("small_bank", "large_bank"):  # of full size: what an image costs is probed before training
            self.register_buffer(name, torch.zeros(options.bank, options.dimensions))

    def encode(self, patches: Tensor, side: int) -> Tensor:
        """Embeddings of (P, C, side, side) patches: (P, D)."""
        if side == SMALL:
            return self.small(patches).flatten(1)
        quarters = patches.unflatten(3, (2, SMALL)).unflatten(2, (2, SMALL)).permute(0, 2, 4, 1, 3, 5)
        small = self.small(quarters.flatten(0, 2)).view(len(patches), 2, 2, -1)
        return self.large(small.permute(0, 3, 1, 2), spacing=1).flatten(1)

    def embed(self, images: Tensor) -> list[Tensor]:
        """(N, D, h, w) embeddings of all patches every `map_stride` px, for both levels."""
        keep = self.options.map_stride // 2  # the encoders themselves step 2 px
        small = self.small(images - 0.5)
        return [level[:, :, ::keep, ::keep] for level in (small, self.large(small))]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = []
        banks = (self.small_bank, self.large_bank)
        for side, bank, features in zip(SIDES, banks, self.embed(images), strict=True):
            middle = bank.mean(dim=0)  # shorter vectors, smaller rounding errors
            distance = nearest_distance(flatten_maps(features) - middle, bank - middle)
            maps.append(self._to_image(distance.view(-1, *features.shape[-2:]), side))
        return anomaly_outputs(self.blur(maps[0] * maps[1]), worst_share=self.options.worst_share)

    def _to_image(self, maps: Tensor, side: int) -> Tensor:
        """Each patch's value at the patch's centre (N, H, W); beyond the outermost centres the nearest value."""
        step, size = self.options.map_stride, self.options.image_size
        inner = maps.shape[-1] * step
        before = (side - step) // 2
        x = enlarge(maps, (inner, inner))[:, None]
        return F.pad(x, (before, size - inner - before) * 2, mode="replicate")[:, 0]

    def compute_loss(self, batch: Batch) -> Tensor:
        images = batch["image"] - 0.5
        losses = []
        for side, classifier in zip(SIDES, self.directions, strict=True):
            first, second, direction = neighbouring_patches(images, side, self.options.patches)
            pairs = self.encode(torch.cat([first, second]), side)
            losses.append(F.cross_entropy(classifier(pairs), direction))
            first, second = jittered_patches(images, side, self.options.patches)
            a, b = self.encode(torch.cat([first, second]), side).chunk(2)
            losses.append(self.options.svdd_weight * ((a - b).square().sum(dim=1) + 1e-6).sqrt().mean())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        self.eval()
        levels: list[list[Tensor]] = [[], []]
        for batch in batches:
            for level, features in zip(levels, self.embed(batch["image"]), strict=True):
                keep = valid_patches(batch["valid"], features.shape[-2:]).flatten()
                vectors = flatten_maps(features)[keep]
                share = min(1.0, MAX_COLLECTED / (count * features.shape[-2] * features.shape[-1]))
                level.append(vectors[torch.rand(len(vectors), device=vectors.device) < share])
        banks = [gather_vectors(torch.cat(level)) for level in levels]
        self.small_bank, self.large_bank = (b[k_center_greedy(b, self.options.bank)].clone() for b in banks)


class SmallEncoder(nn.Sequential):
    """(N, C, H, W) to an embedding for each 32 x 32 patch, every 2 px: (N, D, (H - 32) // 2 + 1, ...)."""

    def __init__(self, channels: int, dimensions: int) -> None:
        widths = [channels, 32, 64, 128, 128, 64, 32, 32, dimensions]
        layers: list[nn.Module] = []
        for i in range(8):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, 2 if i == 0 else 1), nn.LeakyReLU(0.1)]
        super().__init__(*layers[:-1], nn.Tanh())


class LargeEncoder(nn.Module):
    """From the embeddings of 32 x 32 patches to one for each 64 x 64 patch, made of those of its four quarters."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(dimensions, 128, 2)
        self.out = nn.Conv2d(128, dimensions, 1)

    def forward(self, small: Tensor, spacing: int = SMALL // 2) -> Tensor:
        """`spacing` is that of the quarters in elements of the map."""
        joined = F.conv2d(small, self.join.weight, self.join.bias, dilation=spacing)
        return torch.tanh(self.out(F.leaky_relu(joined, 0.1)))


class DirectionClassifier(nn.Sequential):
    """From the difference of two embeddings to logits of the direction of the second patch."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(
            nn.Linear(dimensions, 128), nn.LeakyReLU(0.1), nn.Linear(128, 128), nn.LeakyReLU(0.1), nn.Linear(128, 8)
        )

    def forward(self, pairs: Tensor) -> Tensor:
        first, second = pairs.chunk(2)
        return super().forward(second - first)


def crop_patches(images: Tensor, corners: Tensor, side: int, count: int) -> Tensor:
    """Patches at the (N * count, 2) corners (top, left), `count` for each image in turn, shifted inside the image."""
    height, width = images.shape[-2:]
    patches = []
    for i, (y, x) in enumerate(corners.tolist()):
        y, x = min(max(y, 0), height - side), min(max(x, 0), width - side)
        patches.append(images[i // count, :, y : y + side, x : x + side])
    return torch.stack(patches)


def random_corners(images: Tensor, side: int, count: int, border: int) -> Tensor:
    """(N * count, 2) top left corners; `border` px around are kept free where the image is large enough."""
    room = images.shape[-1] - side - 2 * border
    low, high = (border, border + room) if room >= 0 else (0, images.shape[-1] - side)
    return torch.randint(low, high + 1, (len(images) * count, 2))


def neighbouring_patches(images: Tensor, side: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Patches, a neighbour of each about three quarters of a side away, and the (P,) index of its direction.

    Each patch's colours are shifted a little, so that the task is not solved by colour fringes or by position alone.
    """
    step = 3 * side // 4
    corners = random_corners(images, side, count, step + side // 8)
    direction = torch.randint(8, (len(corners),))
    moved = (
        corners + step * torch.tensor(DIRECTIONS)[direction] + torch.randint(-side // 8, side // 8 + 1, corners.shape)
    )
    first, second = crop_patches(images, corners, side, count), crop_patches(images, moved, side, count)
    shift = 0.02 * torch.randn(2, len(first), images.shape[1], 1, 1, device=images.device)
    return first + shift[0], second + shift[1], direction.to(images.device)


def jittered_patches(images: Tensor, side: int, count: int) -> tuple[Tensor, Tensor]:
    """Patches, and others shifted by a few pixels."""
    corners = random_corners(images, side, count, side // 8)
    moved = corners + torch.randint(-side // 8, side // 8 + 1, corners.shape)
    return crop_patches(images, corners, side, count), crop_patches(images, moved, side, count)
