"""Images by the paths that an annotation file records of them, which are often those of another computer."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from blemish.dataset.annotations import fold_name, warn_skipped
from blemish.dataset.image_files import list_images


@dataclass(frozen=True)
class RecordedImages:
    """The image of each record, None where there is none; and images that several records may mean."""

    images: list[Path | None]
    doubtful: list[Path]


def match_recorded(records: Sequence[Sequence[str]], root: Path, file: Path) -> RecordedImages:
    """Find the images below `root` of the records of `file`, each given by its possible paths, the likeliest first.

    An image is that of the record which agrees with the most folders above it. Set aside with a warning: records
    without an image, and images of which several records, or records of which several images agree as well.
    """
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for image in list_images(root, deep=True):
        by_name[fold_name(image.name)].append(image)
    matches: list[list[tuple[int, Path]]] = []
    for names in records:
        found = next(filter(None, (_best(name, by_name, root) for name in names if name)), [])
        matches.append(found)
        if not found:
            warn_skipped(f"{file}: image {names[0] if names else '(none)'} does not exist in {root}", folder=root)
    agreed: defaultdict[Path, Counter[int]] = defaultdict(Counter)
    for found in matches:
        for steps, image in found:
            agreed[image][steps] += 1
    images: list[Path | None] = []
    doubtful = dict[Path, str]()
    for names, found in zip(records, matches, strict=True):
        if len(found) > 1:
            doubtful |= dict.fromkeys((image for _, image in found), "several images have the name")
        elif found:
            steps, image = found[0]
            best = max(agreed[image])
            if steps == best and agreed[image][best] > 1:
                doubtful[image] = "several records have the name"
            elif steps < best:
                warn_skipped(f"{file}: image {names[0]} does not exist in {root}", folder=root)
                found = []
        images.append(found[0][1] if len(found) == 1 else None)
    for image, why in doubtful.items():
        warn_skipped(f"{file}: {why} {image.name}; which one is {image}, is not known", image)
    return RecordedImages([None if image in doubtful else image for image in images], list(doubtful))


def _best(name: str, by_name: dict[str, list[Path]], root: Path) -> list[tuple[int, Path]]:
    """(number of steps of the path that agree, image): those that agree in most."""
    steps = _steps(name)
    found = [
        (_common(steps, _steps(image.relative_to(root).as_posix())), image) for image in by_name.get(steps[-1], [])
    ]
    most = max((count for count, _ in found), default=0)
    return [(count, image) for count, image in found if count == most]


def _steps(path: str) -> list[str]:
    return [fold_name(step) for step in PurePosixPath(path.replace("\\", "/")).parts] or [""]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        count += 1
    return count


def read_start(file: Path) -> str:
    """The beginning of a text file, for a look at its kind."""
    with file.open("rb") as stream:
        return stream.read(65536).decode("utf-8-sig", errors="replace").lstrip()
