"""Defect pixels of an image by class, as they are painted: 0 for none, k for the k-th class."""

from collections.abc import Sequence

import cv2
import numpy as np

from blemish.arrays import ClassMap, Mask
from blemish.dataset.sample import DEFECT
from blemish.geometry import Rle, connected_regions, encode_mask
from blemish.inspection.result import Inspection

MAX_CLASSES, NO_CLASS = 254, 255  # NO_CLASS: painted, but of no class yet
# Apart from each other also for people who confuse red and green (Okabe and Ito 2008).
COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#E69F00", "#0072B2", "#FFFFFF")


def class_colour(index: int) -> str:
    """The colour of the k-th class, from 0."""
    return COLOURS[index % len(COLOURS)]


def region_map(found: Inspection, classes: tuple[str, ...], default: str) -> ClassMap:
    """The regions of an inspection as a class map of its size; a class that is not listed counts as `default`."""
    pixels = np.zeros(found.size, np.uint8)
    for region in found.regions:
        x0, y0, x1, y1 = region.box
        index = classes.index(region.label if region.label in classes and region.label != DEFECT else default) + 1
        if region.mask is not None:
            pixels[y0:y1, x0:x1][region.mask] = index
    return pixels


def split_defects(classes_of: ClassMap, classes: Sequence[str]) -> list[Rle]:
    """Each 8-connected region of a class as one defect."""
    shapes = []
    for index, name in enumerate(classes, 1):
        pixels = np.asarray(classes_of == index)
        if pixels.any():
            shapes += [encode_mask(region, name) for region in connected_regions(pixels)]
    return shapes


def piece_at(classes_of: ClassMap, x: int, y: int) -> Mask:
    """The 8-connected pixels of one class that a pixel belongs to."""
    _, pieces = cv2.connectedComponents((classes_of == classes_of[y, x]).astype(np.uint8), connectivity=8)
    return np.asarray(pieces == pieces[y, x])


def resize_map(classes_of: ClassMap, size: tuple[int, int]) -> ClassMap:
    if classes_of.shape == size:
        return classes_of
    return np.asarray(cv2.resize(classes_of, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def colour_png(classes_of: ClassMap) -> bytes:
    """The map as a PNG of the classes' colours, transparent where there is no defect."""
    table = np.zeros((MAX_CLASSES + 2, 4), np.uint8)
    for index in range(1, MAX_CLASSES + 1):
        colour = class_colour(index - 1).lstrip("#")
        table[index] = [*bytes.fromhex(colour), 255]
    return bytes(cv2.imencode(".png", cv2.cvtColor(table[classes_of], cv2.COLOR_RGBA2BGRA))[1].tobytes())
