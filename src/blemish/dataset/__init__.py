"""Images and what is known about them: reading any layout, splitting, checking, writing."""

from blemish.dataset.audit import audit_dataset
from blemish.dataset.ground_truth import defect_boxes, has_boxes, has_mask, read_class_masks, read_defect_mask
from blemish.dataset.info import describe
from blemish.dataset.read import FORMATS, detect_format, read_dataset
from blemish.dataset.sample import DEFECT, GOOD, SPLITS, Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import convert, dataset_sha256, write_csv
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
    "convert",
    "dataset_sha256",
    "defect_boxes",
    "describe",
    "detect_format",
    "ensure_splits",
    "has_boxes",
    "has_mask",
    "read_class_masks",
    "read_dataset",
    "read_defect_mask",
    "valid_mask",
    "write_csv",
]
