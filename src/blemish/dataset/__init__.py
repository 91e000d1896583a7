"""Images and what is known about them: reading any layout, splitting, checking, writing."""

from blemish.dataset.audit import audit_dataset
from blemish.dataset.ground_truth import boxes_of, class_masks, has_boxes, has_mask, mask_of
from blemish.dataset.info import describe
from blemish.dataset.read import FORMATS, detect_format, read_dataset
from blemish.dataset.sample import DEFECT, GOOD, SPLITS, Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import convert, sha256_of, write_csv
from blemish.geometry import Box, Polygon, Rle, Shape

__all__ = [
    "DEFECT",
    "FORMATS",
    "GOOD",
    "SPLITS",
    "Box",
    "Dataset",
    "Polygon",
    "Rle",
    "Sample",
    "Shape",
    "audit_dataset",
    "boxes_of",
    "class_masks",
    "convert",
    "describe",
    "detect_format",
    "ensure_splits",
    "has_boxes",
    "has_mask",
    "mask_of",
    "read_dataset",
    "sha256_of",
    "valid_mask",
    "write_csv",
]
