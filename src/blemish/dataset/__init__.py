"""Images and what is known about them: reading any layout, splitting, checking, writing."""

from blemish.dataset.audit import audit_dataset
from blemish.dataset.info import describe
from blemish.dataset.read import FORMATS, detect_format, read_dataset
from blemish.dataset.sample import GOOD, SPLITS, Box, Dataset, Sample
from blemish.dataset.split import ensure_splits
from blemish.dataset.valid import valid_mask
from blemish.dataset.write import convert, sha256_of, write_csv

__all__ = [
    "FORMATS",
    "GOOD",
    "SPLITS",
    "Box",
    "Dataset",
    "Sample",
    "audit_dataset",
    "convert",
    "describe",
    "detect_format",
    "ensure_splits",
    "read_dataset",
    "sha256_of",
    "valid_mask",
    "write_csv",
]
