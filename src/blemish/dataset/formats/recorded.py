"""Images by the paths that an annotation file records of them, which are often those of another computer."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.dataset.annotations import fold_name, warn_skipped
from blemish.dataset.image_files import list_files, list_images
from blemish.dataset.labels import LabelEvidence, normalize_label
from blemish.dataset.own_results import is_result_file
from blemish.dataset.sample import GOOD
from blemish.errors import DataError

_MAX_FILES = 20  # of a folder that are looked into


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


def find_exports(path: Path, suffix: str, is_export: Callable[[Path], bool]) -> list[Path]:
    """The file itself, or the files of a folder, with this suffix and content."""
    files = [path] if path.is_file() else list_files(path, (suffix,))[:_MAX_FILES]
    return [file for file in files if file.suffix.lower() == suffix and is_export(file) and not is_result_file(file)]


def require_exports(path: Path, suffix: str, is_export: Callable[[Path], bool], kind: str) -> list[Path]:
    """As `find_exports`; DataError, naming what is there instead, where there is none."""
    files = find_exports(path, suffix, is_export)
    if not files:
        others = [path] if path.is_file() else list_files(path, (suffix,))
        found = f"{', '.join(str(file) for file in others[:3])} is none" if others else f"there is no {suffix} file"
        raise DataError(f"{path} holds no {kind}: {found}")
    return files


def state_label(names: Iterable[str], source: str, image: Path) -> dict[str, Any]:
    """Fields of a sample for the classes that an annotation states of the whole image; nothing where there are none.

    To be good and defective contradicts itself, and is set aside.
    """
    labels = tuple(dict.fromkeys(normalize_label(name) for name in names))
    if not labels:
        return {}
    if len(labels) == 1:
        return {"label": labels[0], "evidence": LabelEvidence.ANNOTATION}
    if GOOD in labels:
        warn_skipped(f"{source}: {image.name} is said to be {', '.join(labels)} at once", image)
        return {}
    return {"labels": labels, "evidence": LabelEvidence.ANNOTATION}
