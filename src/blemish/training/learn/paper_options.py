"""The preset `paper`: the options of each method as its paper, or its authors' code, has them.

A method without values here has none that could be carried over, and `missing` says why. Backbones are no values of a
preset: most papers take a WideResNet-50, whose weights do not come with this package; give them with `backbone` and
`weights` where you have them.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Epochs:
    """Passes over the good training images, where an option counts steps."""

    count: int


@dataclass(frozen=True)
class PaperValue:
    """The value of an option, and where it is stated: a section of the paper, or a file of the authors' code."""

    option: str
    value: Any
    source: str


@dataclass(frozen=True)
class PaperPreset:
    """Values of a paper, and what of its setup cannot be had by options."""

    values: tuple[PaperValue, ...] = ()
    missing: str = ""


def _preset(source: str, values: dict[str, Any], missing: str = "", **others: tuple[Any, str]) -> PaperPreset:
    """Values of one source, and `others` as (value, source)."""
    found = [PaperValue(option, value, source) for option, value in values.items()]
    found += [PaperValue(option, value, own) for option, (value, own) in others.items()]
    return PaperPreset(tuple(found), missing)


_WIDE = "WideResNet-50"
_MEDICAL = "the paper trains on slices of brain scans, whose sizes and numbers of images do not carry over to parts"
_COCO = "the papers train on COCO with wider networks on several GPUs; their steps and rates do not fit the ones here"
_SCENES = "the paper trains on photos of scenes; its schedule does not fit the encoder here"
_NO_SCHEDULE = "the paper is of the principle and gives no schedule for surfaces"

PAPERS: dict[str, PaperPreset] = {
    "patchcore": _preset(
        "section 4.1; README.md of the authors' code",
        {"image_size": 224, "coreset_ratio": 0.1, "max_vectors": 262144, "strides": (8, 16), "neighbours": 1},
        f"{_WIDE}; images are cropped to 224 px from 256",
        blur=(4.0, "section 3.3"),
    ),
    "padim": _preset(
        "section IV",
        {"image_size": 224, "strides": (4, 8, 16), "grid_stride": 4, "dimensions": 100, "blur": 4.0},
        f"{_WIDE} with 550 dimensions; 100 are those of its ResNet-18; images are cropped to 224 px from 256",
        regularisation=(0.01, "section III-B"),
    ),
    "spade": _preset(
        "section 4",
        {"image_size": 224, "strides": (4, 8, 16), "grid_stride": 4, "neighbours": 50, "blur": 4.0},
        f"{_WIDE}; images are cropped to 224 px from 256",
        gallery=(10000, "section 3.1: all good images"),
    ),
    "dfm": PaperPreset(missing="the papers compare several backbones and layers, and name no one setup of the others"),
    "subspace": _preset(
        "section 4", {"variance": 0.99, "worst": 0.01}, "DINOv2-G and its input size; training images rotated"
    ),
    "siamese": PaperPreset(missing=_NO_SCHEDULE),
    "stfpm": _preset(
        "section 4.1",
        {"image_size": 256, "batch_size": 32, "strides": (4, 8, 16), "steps": Epochs(100), "learning_rate": 0.4},
        "ResNet-18; a fifth of the good images chooses the epoch",
        blur=(0.0, "section 3.3: the map is not smoothed"),
        worst_share=(0.0, "section 3.3: the largest value of the map"),
    ),
    "reverse-distillation": _preset(
        "section 4.1; main.py of the authors' code",
        {"image_size": 256, "batch_size": 16, "steps": Epochs(200), "learning_rate": 0.005},
        _WIDE,
        strides=((4, 8, 16), "section 3.2"),
        blur=(4.0, "section 3.4"),
        worst_share=(0.0, "section 3.4: the largest value of the map"),
    ),
    "efficientad": _preset(
        "appendix A.1",
        {"image_size": 256, "batch_size": 1, "width": 1.0, "steps": 70000, "distill_steps": 60000,
         "learning_rate": 1e-4, "hard_share": 0.999},
        f"a teacher distilled from {_WIDE} and penalty images, both by ImageNet: give a folder of images with `images`",
    ),
    "fastflow": _preset(
        "section 4.2",
        {"image_size": 256, "batch_size": 32, "strides": (4, 8, 16), "flow_steps": 8, "steps": Epochs(500),
         "learning_rate": 1e-3},
        f"{_WIDE}, ResNet-18 or vision transformers",
        worst_share=(0.0, "section 3.4: the largest value of the map"),
    ),
    "fcdd": _preset(
        "appendix; python/fcdd/runners/argparse_configs.py of the authors' code",
        {"image_size": 224, "batch_size": 64, "steps": Epochs(200), "learning_rate": 1e-3, "blur": 12.0},
        "VGG-11; 16 times 8 images a batch, part of them with confetti; the rate falls by 1.5 % an epoch",
    ),
    "patch-svdd": _preset(
        "main_train.py of the authors' code",
        {"image_size": 256, "batch_size": 64, "dimensions": 64, "steps": 98000, "learning_rate": 1e-4},
        "300 epochs of 100 patches from each of 209 images are the steps; every good patch is kept",
        blur=(0.0, "the paper's map is not smoothed"),
    ),
    "deep-svdd": _preset(
        "section 4.2; README.md of the authors' code",
        {"image_size": 32, "batch_size": 200, "pretrain_steps": Epochs(350), "steps": Epochs(150),
         "learning_rate": 1e-4, "pretrain_rate": 1e-4},
        "photos of 32 px; a network of three layers",
    ),
    "anomaly-dino": _preset(
        "section 4",
        {"image_size": 448, "max_vectors": 1048576, "worst_share": 0.01},
        "DINOv2, whose weights are downloaded; the background is masked out",
        blur=(4.0, "section 3"),
    ),
    "dinomaly": _preset(
        "section 4.1; dinomaly_mvtec_uni.py of the authors' code",
        {"image_size": 392, "batch_size": 16, "backbone": "vit_base_patch14_reg4_dinov2", "first_block": 2, "blocks": 8,
         "heads": 12, "noise": 0.2, "steps": 10000, "learning_rate": 2e-3, "worst_share": 0.01},
        "DINOv2, whose weights are downloaded; images are cropped to 392 px from 448",
    ),
    "autoencoder": _preset(
        "section 4",
        {"image_size": 128, "batch_size": 128, "loss": "ssim", "dimensions": 100, "width": 32, "steps": 15600,
         "learning_rate": 2e-4},
        "10,000 random patches of 128 px as the training set, of which 200 epochs are the steps",
        blur=(0.0, "the paper's map is the residual itself"),
        standardise=("none", "the paper's map is the residual itself"),
    ),
    "vae": PaperPreset(missing=_MEDICAL),
    "aae": PaperPreset(missing=_MEDICAL),
    "ganomaly": _preset(
        "section 4; options.py of the authors' code",
        {"image_size": 32, "batch_size": 64, "width": 64, "dimensions": 100, "steps": Epochs(15), "learning_rate": 2e-4,
         "score": "latent", "adversarial": 1.0, "contextual": 50.0, "encoding": 1.0, "standardise": "none"},
        "photos of 32 px, some thousands of them: 15 epochs of a few hundred images are next to nothing",
    ),
    "f-anogan": _preset(
        "sections 2 and 3",
        {"image_size": 64, "width": 64, "dimensions": 128, "score": "image", "gan_steps": 100000, "steps": 50000,
         "learning_rate": 1e-4, "encoder_rate": 5e-5, "feature_weight": 1.0, "standardise": "none"},
        "a million patches of retinal scans as the training set",
        blur=(0.0, "the paper's map is the residual itself"),
    ),
    "denoising-autoencoder": _preset(
        "section 3",
        {"image_size": 128, "batch_size": 16, "width": 64, "cells": 16, "noise": 0.2, "steps": 67200,
         "learning_rate": 1e-4, "standardise": "none"},
        "slices of brain scans with four channels; a median filter of the map, where there is a Gaussian here",
    ),
    "deblurring": PaperPreset(missing="it follows the denoising autoencoder and has no paper of its own"),
    "inpainting": _preset(
        "section 4",
        {"image_size": 256, "cells": (2, 4, 8, 16), "masks": 3, "width": 64, "steps": Epochs(300),
         "learning_rate": 1e-4, "standardise": "none"},
    ),
    "draem": _preset(
        "section 4",
        {"image_size": 256, "batch_size": 8, "width": 64, "steps": Epochs(700), "learning_rate": 1e-4},
        "textures of DTD: give a folder of images with `images`; the reconstructing network has twice the width",
    ),
    "supersimplenet": _preset(
        "section 4.2",
        {"image_size": 256, "batch_size": 32, "strides": (8, 16), "upscale": 2, "width": 1024, "steps": Epochs(300),
         "learning_rate": 2e-4, "score": "head"},
        f"{_WIDE}; the paper's noise of 0.015 is in units of its own features",
    ),
    "maml": _preset(
        "appendix A.1",
        {"first_order": False, "inner_steps": 5, "inner_rate": 0.01, "ways": 5, "shots": 5, "learning_rate": 1e-3},
        "photos of 84 px, a small network from scratch and 60,000 steps",
    ),
    "prototypical": PaperPreset(missing="the paper learns from scratch on thousands of classes of small photos"),
    "matching": PaperPreset(missing="the paper learns from scratch on thousands of classes of small photos"),
    "faster-rcnn": PaperPreset(missing=_COCO),
    "mask-rcnn": PaperPreset(missing=_COCO),
    "yolo": PaperPreset(missing=_COCO),
    "ssd": PaperPreset(missing=_COCO),
    "fcos": PaperPreset(missing=_COCO),
    "retinanet": PaperPreset(missing=_COCO),
    "unet": PaperPreset(missing="the paper trains on 30 images of cells with one image a batch, and gives no steps"),
    "fcn": PaperPreset(missing=_SCENES),
    "fpn": PaperPreset(missing=_SCENES),
    "deeplabv3plus": PaperPreset(missing=_SCENES),
    "segan": PaperPreset(missing=_MEDICAL),
    "multitask": PaperPreset(missing="the paper has a schedule of its own for each of its data sets"),
    "classifier": PaperPreset(missing=_NO_SCHEDULE),
    "cascade": PaperPreset(missing=_NO_SCHEDULE),
    "feature-classifier": PaperPreset(missing=_NO_SCHEDULE),
}  # fmt: skip
