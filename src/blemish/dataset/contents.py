"""The contents of images, which say whether two are the same wherever they lie and whatever they are called."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from blemish.dataset.sample import Dataset, Sample
from blemish.files import file_sha256

_THREADS = 4


def content_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each file, hexadecimal; files that cannot be read are left out.

    A file is read once, as long as its size and time of change stay the same.
    """
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        hashes = pool.map(content_hash, unique)
    return {path: own for path, own in zip(unique, hashes, strict=True) if own is not None}


def sample_files(sample: Sample) -> list[Path]:
    """The files that a sample is made of: its image, and what is known of it."""
    files = (sample.image, sample.mask, sample.template, sample.roi, sample.ignore)
    return [path for path in files if path is not None]


def files_sha256(dataset: Dataset) -> str:
    """Hash of all files of a dataset by name and content, whatever their order."""
    hashes = content_hashes(path for sample in dataset.samples for path in sample_files(sample))
    lines = sorted(f"{path.absolute().as_posix()} {own}" for path, own in hashes.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def content_hash(path: Path) -> str | None:
    """As `content_hashes`, of one file; None where it cannot be read."""
    try:
        state = path.stat()
        return _hash_state(path.absolute(), state.st_size, state.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1 << 18)
def _hash_state(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)
