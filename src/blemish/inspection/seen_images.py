"""The images that a bundle was trained, tuned or calibrated on, by their contents: they are no new ones in a test."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from blemish.dataset.contents import content_hashes
from blemish.dataset.sample import Dataset
from blemish.errors import BundleError
from blemish.inspection.bundle import Bundle

SEEN = "seen.json"  # member of a bundle: {split: [the first digits of the SHA-256 of its files, …], …}
SEEN_SPLITS = ("train", "tuning", "val")  # an image of several counts as of the first
_DIGITS = 16


def seen_hashes(dataset: Dataset) -> dict[str, str]:
    """Split by the hash of an image's content, of all images but those for testing."""
    seen = [sample for split in SEEN_SPLITS for sample in dataset.split(split).samples]
    hashes = _image_hashes(sample.image for sample in seen)
    return {hashes[s.image]: str(s.split) for s in reversed(seen) if s.image in hashes}  # of several the first


def join_seen(*known: Mapping[str, str]) -> dict[str, str]:
    """One split a hash: the first of SEEN_SPLITS that any of them gives."""
    keys = {key for own in known for key in own}
    return {key: min((own[key] for own in known if key in own), key=SEEN_SPLITS.index) for key in keys}


def pack_seen(hashes: Mapping[str, str]) -> bytes:
    content = {split: sorted(key for key, own in hashes.items() if own == split) for split in SEEN_SPLITS}
    return json.dumps(content).encode()


def unpack_seen(bundle: Bundle) -> dict[str, str] | None:
    """Split by hash; None for a bundle that does not say what it has seen, BundleError for a damaged member."""
    if SEEN not in bundle.extras:
        return None
    try:
        content = json.loads(bundle.extras[SEEN])
        return {str(key): split for split in reversed(SEEN_SPLITS) for key in content.get(split, ())}
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"bundle {bundle.path}: {SEEN} is not a list of the images that it has seen") from error


def with_seen(bundle: Bundle, images: Iterable[Path]) -> dict[str, bytes]:
    """The bundle's other members, with these images among those trained on, where it says what it has seen."""
    seen = unpack_seen(bundle)
    if seen is None:
        return bundle.extras
    learnt = dict.fromkeys(_image_hashes(images).values(), SEEN_SPLITS[0])
    return {**bundle.extras, SEEN: pack_seen(join_seen(seen, learnt))}


def find_seen(seen: Mapping[str, str], images: Iterable[Path]) -> dict[Path, str]:
    """The split of each of the images that were seen."""
    return {path: seen[own] for path, own in _image_hashes(images).items() if own in seen}


def _image_hashes(images: Iterable[Path]) -> dict[Path, str]:
    return {path: own[:_DIGITS] for path, own in content_hashes(images).items()}


def count_seen(bundle: Bundle, images: Iterable[Path]) -> dict[str, int] | None:
    """How many of the images the bundle was trained, tuned or calibrated on; None where it does not say which."""
    seen = unpack_seen(bundle)
    if seen is None:
        return None
    counts = Counter(find_seen(seen, images).values())
    return {split: counts[split] for split in SEEN_SPLITS}
