"""DeepPCB: a defect-free template beside each image, and lines of x1 y1 x2 y2 class in pixels."""

from pathlib import Path

from blemish.dataset.annotations import entries, known, left_out, no_shape, number, read_text, readable, text_of
from blemish.dataset.image_files import copy_image, folders_in, images_in, new_folder
from blemish.dataset.sample import Dataset, Sample
from blemish.geometry import Box

SAYS = "group*/<part>/*_test.jpg with *_temp.jpg, and group*/<part>_not/*.txt"
CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # of numbers 1 to 6
_LISTS = {"trainval.txt": "train", "train.txt": "train", "val.txt": "val", "test.txt": "test"}


def looks_like(path: Path) -> bool:
    return any(
        image.stem.endswith("_test") for part, _ in _parts(path) for image in images_in(part)[:4]
    )  # a template and its image, twice


def read(path: Path) -> list[Sample]:
    """Samples with template and boxes; an image without a file, or with an empty one, is good.

    Splits are those of trainval.txt, val.txt and test.txt where they are there. Lines that are not understood or of an
    unknown class are left out with a warning.
    """
    splits = _splits(path)
    samples = []
    for part, annotations in _parts(path):
        images = {image.stem: image for image in images_in(part)}
        seen = set()
        for stem, image in images.items():
            if not stem.endswith("_test"):
                continue
            name = stem.removesuffix("_test")
            seen.add(name)
            file = annotations / f"{name}.txt"
            boxes = readable(read_boxes, file, image) if file.is_file() else ()
            truth = {} if boxes is None else known(boxes, ())
            samples.append(Sample(image, split=splits.get(name), template=images.get(f"{name}_temp"), **truth))
        for file in sorted(annotations.glob("*.txt")):
            if file.stem not in seen:
                left_out(f"{file}: its image does not exist in {part}")
    return samples


def read_boxes(path: Path, image: Path | None = None) -> tuple[Box, ...]:
    """Boxes of a file; corners are edges, as in the set's own evaluation."""
    boxes = []
    for at, line in enumerate(read_text(path).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            x0, y0, x1, y1, kind = (number(word) for word in words)
        except ValueError:
            left_out(f"{path}, line {at}: expected x1 y1 x2 y2 class, not {line.strip()!r}", image)
            continue
        if kind not in range(1, len(CLASSES) + 1):
            left_out(f"{path}, line {at}: class {words[4]} is unknown; they go from 1 to {len(CLASSES)}", image)
            continue
        boxes.append(Box(x0, y0, x1, y1, CLASSES[int(kind) - 1]))
    return tuple(boxes)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write images that have a template, with their boxes; returns what could not be kept, a line each."""
    paired = dataset.where(lambda s: s.template is not None)
    found, lost = entries(paired, no_shape, {"template", "split"})
    if len(paired) < len(dataset):
        lost.append(f"{len(dataset) - len(paired)} images without a template are left out")
    unknown = sorted({i.label for e in found for i in e.items or () if i.label not in CLASSES})
    if unknown:
        lost.append(f"boxes of classes that the format does not know are left out: {', '.join(unknown)}")
    undecided = sum(entry.items is None for entry in found)
    if undecided:
        lost.append(f"{undecided} images whose defects are not known read back as good")
    new_folder(out, found, "a template")
    part, annotations = out / "group00000" / "00000", out / "group00000" / "00000_not"
    annotations.mkdir(parents=True)
    lists: dict[str, list[str]] = {}
    for entry in found:
        assert entry.sample.template is not None
        copy_image(entry.sample.image, part / f"{entry.stem}_test{entry.sample.image.suffix.lower()}")
        copy_image(entry.sample.template, part / f"{entry.stem}_temp{entry.sample.template.suffix.lower()}")
        boxes = [i for i in entry.items or () if isinstance(i, Box) and i.label in CLASSES]
        rows = [[text_of(v) for v in (b.x0, b.y0, b.x1, b.y1)] + [str(CLASSES.index(b.label) + 1)] for b in boxes]
        (annotations / f"{entry.stem}.txt").write_text("".join(" ".join(row) + "\n" for row in rows), "utf-8")
        if entry.sample.split is not None:
            line = f"group00000/00000/{entry.stem}.jpg group00000/00000_not/{entry.stem}.txt\n"
            lists.setdefault(entry.sample.split, []).append(line)
    for name, split in _LISTS.items():
        if split in lists and name != "train.txt":
            (out / name).write_text("".join(lists[split]), encoding="utf-8")
    return lost


def _parts(path: Path) -> list[tuple[Path, Path]]:
    """(folder of images, folder of boxes) of each part of each group."""
    found = []
    for group in (folder for folder in [path, *folders_in(path)] if folder.is_dir()):
        by_name = {folder.name: folder for folder in folders_in(group)}
        found += [(by_name[n], by_name[f"{n}_not"]) for n in by_name if f"{n}_not" in by_name]
    return found


def _splits(path: Path) -> dict[str, str]:
    """Split by an image's name, without `_test`."""
    found = {}
    for file, split in ((path / name, split) for name, split in _LISTS.items()):
        for line in read_text(file).splitlines() if file.is_file() else ():
            if line.strip():
                found[Path(line.split()[0]).stem.removesuffix("_test")] = split
    return found
