"""Files in a dataset's folder that were not read, counted by the reason."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from blemish.dataset.image_files import MASK_NAMES, WHOLE_SET_MASKS, walk_folders
from blemish.dataset.sample import Sample
from blemish.imaging.read import IMAGE_SUFFIXES

ANNOTATION_SUFFIXES = (".txt", ".xml", ".json", ".csv", ".tsv", ".yaml", ".yml", ".names", ".data", ".md", ".rtf")
_MASK_TAIL = re.compile(r"_(mask|gt|label)s?$", re.IGNORECASE)
NOT_NAMED, HIDDEN, DEAD_LINK = "images that the layout does not name", "hidden files", "links to nothing"


def count_passed_over(place: Path, samples: Iterable[Sample]) -> dict[str, int]:
    """Reason -> files below a folder that are neither images of the samples nor annotations."""
    if not place.is_dir():
        return {}
    used, stems = set[Path](), set[str]()
    for s in samples:
        used.update(path for path in (s.image, s.mask, s.template, s.roi, s.ignore) if path is not None)
        stems.add(s.image.stem)
    reasons: Counter[str] = Counter()
    for folder in walk_folders(place):
        annotations = any(step.lower() in MASK_NAMES for step in folder.relative_to(place).parts)
        for path in folder.iterdir():
            suffix = path.suffix.lower()
            if path in used or path.is_dir():
                continue
            if path.name.startswith("."):
                reasons[HIDDEN] += 1
            elif not path.exists():
                reasons[DEAD_LINK] += 1
            elif suffix in IMAGE_SUFFIXES:
                mask = _MASK_TAIL.sub("", path.stem)
                if not (annotations or path.stem in WHOLE_SET_MASKS or (mask != path.stem and mask in stems)):
                    reasons[NOT_NAMED] += 1
            elif suffix not in ANNOTATION_SUFFIXES:
                reasons[f"{suffix} files" if suffix else "files without a suffix"] += 1
    return dict(reasons.most_common())
