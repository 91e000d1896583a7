"""A class's map by a classifier of patches: what a network that knows only images cannot say to the patch.

Patches are the cells of frozen ImageNet features at stride 16 (those of stride 8 and 16), each classified by a linear
layer. Where masks or boxes of every defect class are known, it is trained on patches cut from them (as in Hou et al.
2016, Patch-based CNN, CVPR). Else it is trained by multiple instances on image labels alone: an image's score of a
class is the mean of its highest 5 % of patches (after Durand et al. 2016, WELDON, CVPR).

Deviations: one linear layer on frozen features, not a network trained on patches; no patches of lowest score.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.dataset.ground_truth import has_mask
from blemish.dataset.sample import GOOD, Dataset
from blemish.errors import DataError
from blemish.inspection.stitching import defect_names
from blemish.methods.base import Item
from blemish.methods.common.backbones import Backbone, load_backbone
from blemish.training.learn.data import ImageItems, View

STRIDES = (8, 16)
MAX_IMAGES = 100  # training images of each class
MAX_PATCHES = 40  # of each class in an image
TOP_SHARE = 0.05  # of the patches of an image
MIN_COVER = 0.5  # of a patch by a defect, for the patch to be of its class; less where no patch has so much
DECAY = 1e-2  # of the squared weights
STEPS, RATE = 1000, 0.01
BAGS, PATCHES = 64, 1024  # in a training batch
UNKNOWN = -1


@dataclass(frozen=True)
class PatchScorer:
    """Logits of defect classes against background for patches: weight (D, F), bias (D,), of standardised features."""

    backbone: Backbone
    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor
    classes: tuple[str, ...]
    trained: tuple[str, ...]  # classes that have training images
    supervised: bool  # by masks or boxes, else by image labels

    def maps(self, images: Tensor, label: str) -> Tensor:
        """(N, h, w) log-odds of a class against background; of GOOD, how far below 0 the highest defect class is."""
        logits = (patch_features(self.backbone, images) - self.mean) / self.deviation @ self.weight.T + self.bias
        if label == GOOD:
            return -logits.amax(dim=-1)
        if label not in self.trained:
            return torch.zeros(logits.shape[:3])
        return logits[..., defect_names(self.classes).index(label)]


def fit_patch_scorer(training: Dataset, view: View, classes: tuple[str, ...], seed: int = 0) -> PatchScorer:
    """Fit the classifier of patches to training images, seen as the network sees them.

    Raises DataError where there is no defective image with a class.
    """
    defects = defect_names(classes)
    chosen = _choose(training, classes)
    trained = tuple(name for name in defects if any(s.label == name for s in chosen.samples))
    if not trained:
        raise DataError("there is no training image with a defect class, so no patch can be classified")
    backbone = load_backbone(channels=view.input.channels, strides=STRIDES).eval()
    features, cells, labels, valid = [], [], [], []
    for item in _items(chosen, view, classes):
        own = patch_features(backbone, item["image"][None])[0]
        grid = (own.shape[0], own.shape[1])
        inside = F.adaptive_avg_pool2d(item["valid"][None, None].float(), grid)[0, 0] >= 0.5
        marked = label_patches(item, grid, len(defects))
        features.append(own.flatten(0, 1))
        valid.append(inside.flatten())
        cells.append(torch.where(inside, marked, UNKNOWN).flatten())
        labels.append(
            0 if item["label"] < 0 or classes[item["label"]] == GOOD else defects.index(classes[item["label"]]) + 1
        )
    every = torch.cat(features)
    mean, deviation = every.mean(dim=0), every.std(dim=0).clamp(min=1e-6)
    bags = [(own - mean) / deviation for own in features]
    known = set(torch.cat(cells).tolist())
    supervised = all(defects.index(name) + 1 in known for name in trained)
    generator = torch.Generator().manual_seed(seed)
    if supervised:
        patches, targets = _cut_patches(bags, cells, generator)
        valid = [torch.ones(1, dtype=torch.bool)] * len(patches)
    else:
        patches, targets = torch.stack(bags), torch.tensor(labels)
    weight, bias = fit_head(patches, targets, torch.stack(valid), len(defects), generator)
    return PatchScorer(backbone, mean, deviation, weight, bias, classes, trained, supervised)


def fit_head(
    bags: Tensor, labels: Tensor, valid: Tensor, defects: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Weight (D, F) and bias (D,) of a linear layer for bags (N, P, F) of patches.

    Each bag has one label (N,): 0 for background, else 1 + index of the defect class. A bag's logit of a class is the
    mean of the highest 5 % of its valid (N, P) patches, at least one; that of background is 0. Softmax cross-entropy,
    classes balanced, by Adam.
    """
    weight = torch.zeros(defects, bags.shape[2], requires_grad=True)
    bias = torch.zeros(defects, requires_grad=True)
    counts = labels.bincount(minlength=defects + 1).clamp(min=1).float()
    balance = (1 / counts)[labels]
    optimizer = torch.optim.Adam([weight, bias], lr=RATE)
    top = max(1, round(TOP_SHARE * bags.shape[1]))
    size = BAGS if bags.shape[1] > 1 else PATCHES
    for _ in range(STEPS):
        own = torch.randint(len(bags), (size,), generator=generator)
        logits = (bags[own] @ weight.T + bias).masked_fill(~valid[own][..., None], -1e4)
        pooled = F.pad(logits.topk(top, dim=1).values.mean(dim=1), (1, 0))
        losses = F.cross_entropy(pooled, labels[own], reduction="none") * balance[own]
        loss = losses.sum() / balance[own].sum() + DECAY * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weight.detach(), bias.detach()


@torch.no_grad()
def patch_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """(N, h, w, F) features of each patch of images (N, C, H, W), the finer ones averaged to the coarser grid."""
    maps = backbone(images)
    size = maps[-1].shape[-2:]
    return torch.cat([F.adaptive_avg_pool2d(own, size) for own in maps], dim=1).permute(0, 2, 3, 1)


def label_patches(item: Item, grid: tuple[int, int], defects: int) -> Tensor:
    """(h, w) label of each patch: 0 background, 1 + index of the defect class, or UNKNOWN.

    All patches of a good image are background. Of a defective one with a mask, or boxes, those that a defect covers by
    half are of its class, at least the one that it covers most, and those that none covers are background.
    """
    unknown = torch.full(grid, UNKNOWN)
    if item["has_mask"]:
        marked = item["mask_labels"]
    elif len(item.get("boxes", ())):
        marked = torch.zeros(item["image"].shape[-2:], dtype=torch.long)
        for x0, y0, x1, y1, name in item["boxes"].tolist():
            marked[int(y0) : max(int(y0) + 1, round(y1)), int(x0) : max(int(x0) + 1, round(x1))] = int(name) + 1
    else:
        return torch.zeros(grid, dtype=torch.long) if not item["defective"] else unknown
    layers = F.one_hot(marked, defects + 1).permute(2, 0, 1)[1:].float()
    cover = F.adaptive_avg_pool2d(layers[None], grid)[0]
    needed = cover.amax(dim=(1, 2), keepdim=True).clamp(max=MIN_COVER)
    labels = torch.where((cover >= needed) & (cover > 0), cover, 0.0).max(dim=0)
    return torch.where(labels.values > 0, labels.indices + 1, torch.where(cover.sum(dim=0) > 0, unknown, 0))


def _choose(training: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The first images of each class, good ones by their class or by what is known of them."""
    samples = []
    for name in classes:
        own = [s for s in training.samples if (s.label or (GOOD if s.defective is False else "")) == name]
        samples += own[:MAX_IMAGES]
    return training.with_samples(samples)


def _items(dataset: Dataset, view: View, classes: tuple[str, ...]) -> list[Item]:
    """Items of the images with all that is known of the place of their defects."""
    boxed = [not has_mask(s) and bool(s.boxes) for s in dataset.samples]
    items: list[Item] = []
    for wanted, kind in ((False, "mask"), (True, "boxes")):
        own = dataset.with_samples(
            [s for s, is_boxed in zip(dataset.samples, boxed, strict=True) if is_boxed == wanted]
        )
        source = ImageItems(own, view, classes, annotations=(kind,))
        items += [source[index] for index in range(len(source))]
    return items


def _cut_patches(bags: list[Tensor], cells: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Patches (M, 1, F) of known class and their labels (M,), a limited number of each class from an image."""
    features, labels = [], []
    for own, marked in zip(bags, cells, strict=True):
        for label in sorted(set(marked.tolist())):
            if label == UNKNOWN:
                continue
            places = (marked == label).nonzero()[:, 0]
            places = places[torch.randperm(len(places), generator=generator)[:MAX_PATCHES]]
            features.append(own[places])
            labels.append(torch.full((len(places),), label))
    return torch.cat(features)[:, None], torch.cat(labels)
