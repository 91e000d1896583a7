"""The table of faults of data sets, each of which is applied to every layout that it makes sense for."""

import io
import os
import shutil
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from layouts import LAYOUTS, SIZE, Built, Item, Layout, Spec, defective, put_mask, write_picture
from PIL import Image

WHO = "c"  # the image that is concerned, unless all are


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a set, or unusual."""

    name: str
    applies: Callable[[Layout], bool]
    spec: Callable[[Spec], Spec] | None = None  # a change of what is written
    files: Callable[[Built], object] | None = None  # a change of the files
    all: bool = False  # whether every image is concerned
    harmless: bool = False  # it has to be read as the sound set is
    moved: bool = False  # the place of the defect is another, by right
    renamed: str = ""  # the new name of the image
    truth: dict[str, str] = field(default_factory=dict)  # labels that are right as well


def pairs() -> Iterator[tuple[Layout, Fault]]:
    for layout in LAYOUTS:
        for fault in FAULTS:
            if fault.applies(layout):
                yield layout, fault


def count_pairs(tried: Iterable[tuple[Layout, Fault]]) -> int:
    """The number of distinct pairs of a format and a fault."""
    return len({(layout.format, fault.name) for layout, fault in tried})


def pairs_by_default() -> list[tuple[Layout, Fault]]:
    """About every fifth pair, of all layouts and nearly all faults: all of them take a minute or two."""
    return [(y, f) for y, f in pairs() if zlib.crc32(f"{y.name} {f.name}".encode()) % 5 == 0]


def any_layout(layout):
    return True


def first_of_format(layout):
    """Whether it is the first layout of its format: the others differ in their annotations alone."""
    return next(own for own in LAYOUTS if own.format == layout.format) is layout


# --- files of annotations ---


def own_text(built):
    return built.notes.get(WHO) or built.shared[0]


def in_own_file(layout):
    return layout.name not in _SHARED


_SHARED = {
    "csv", "csv-boxes", "csv-outlines", "coco", "coco-outlines", "coco-runs", "severstal", "elpv", "label-studio",
    "label-studio-outlines", "label-studio-brush", "cvat", "cvat-outlines", "cvat-masks", "fiftyone", "fiftyone-masks",
}  # fmt: skip
_PLAIN_LISTS = ("class-masks", "yolo-list")  # any line of these is a name
_LISTS = {"class-masks", "roboflow-masks", "visa", "dagm", "real-iad", "csv-masks", "yolo", "yolo-list", "supervisely"}


def edit(change, target=own_text):
    def apply(built):
        file = target(built)
        file.write_bytes(change(file.read_bytes()))

    return apply


def remove(target):
    return lambda built: target(built).unlink()


def to_folder(target):
    def apply(built):
        target(built).unlink()
        target(built).mkdir()

    return apply


def insert(data, change, at=0.5):
    place = int(len(data) * at)
    return data[:place] + change + data[place:]


TEXT_EDITS = {
    "cut in the middle": lambda b: b[: len(b) // 2],
    "last bytes missing": lambda b: b.rstrip()[:-3],
    "first half missing": lambda b: b[len(b) // 2 :],
    "UTF-16": lambda b: b.decode().encode("utf-16"),
    "a byte that is no UTF-8": lambda b: insert(b, b"\xff"),
    "zero bytes within": lambda b: insert(b, b"\0\0\0"),
    "zero bytes alone": lambda b: b"\0" * len(b),
    "an error page": lambda b: b"<html><body>404 not found</body></html>",
    "an empty object": lambda b: b"{}",
    "an empty list": lambda b: b"[]",
    "null": lambda b: b"null",
    "a picture": lambda b: cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(),
    "nested without end": lambda b: b"[" * 100_000,
    "a merge conflict": lambda b: b"<<<<<<< HEAD\n" + b + b"=======\n" + b + b">>>>>>> other\n",
}
UNREADABLE = ("UTF-16", "a byte that is no UTF-8", "a picture")
CONTENT_LOST = ("cut in the middle", "first half missing", "last bytes missing")
HARMLESS_EDITS = {
    "a byte order mark": lambda b: b"\xef\xbb\xbf" + b,
    "lines that end as in Windows": lambda b: b.replace(b"\n", b"\r\n"),
    "blank lines at the end": lambda b: b.rstrip(b"\n") + b"\n\n\n",
}


def text_faults():
    for name, change in TEXT_EDITS.items():
        # Rows that are lost of a list in which unlisted images are good cannot be missed.
        applies = (
            (lambda y: y.has_text and y.name not in ("severstal", "csv"))
            if name in CONTENT_LOST
            else (lambda y: y.has_text)
        )
        yield Fault(f"annotations: {name}", applies, files=edit(change), all=True)
        yield Fault(
            f"list: {name}",
            lambda y, name=name: y.name in _LISTS and (y.name not in _PLAIN_LISTS or name in UNREADABLE),
            files=edit(change, lambda b: b.shared[0]), all=True,
        )  # fmt: skip
    for name, change in HARMLESS_EDITS.items():
        yield Fault(f"annotations: {name}", lambda y: y.has_text, files=edit(change), harmless=True)
        yield Fault(
            f"list: {name}", lambda y: y.name in _LISTS, files=edit(change, lambda b: b.shared[0]), harmless=True
        )

    def loses(layout):  # where an image without a file is not good by convention
        return layout.has_text and (layout.name in _SHARED or not layout.absent_is_good)

    def empties(layout):
        return layout.has_text and (layout.name in _SHARED or not layout.blank_is_good)

    yield Fault("annotations: missing", loses, files=remove(own_text), all=True)
    yield Fault("annotations: a folder in place of the file", loses, files=to_folder(own_text), all=True)
    yield Fault("annotations: empty", empties, files=edit(lambda b: b""), all=True)
    yield Fault("annotations: blank lines alone", empties, files=edit(lambda b: b"\n \n\n"), all=True)
    for name, files in (
        ("missing", remove(lambda b: b.shared[0])),
        ("empty", edit(lambda b: b"", lambda b: b.shared[0])),
        ("a folder in place of the file", to_folder(lambda b: b.shared[0])),
    ):
        yield Fault(f"list: {name}", lambda y: y.name in _LISTS and y.name not in ("yolo", *_PLAIN_LISTS), files=files,
                    all=True)  # fmt: skip


# --- masks ---


def read_pixels(file):
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def save(file, pixels, suffix=".png"):
    file.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())


def redraw(change, everywhere=False):
    """Write an image's mask, or all, from its pixels that are marked, (H, W) bool."""

    def apply(built):
        for name, file in built.masks.items():
            if name == WHO or everywhere:
                pixels = read_pixels(file)
                marked = (pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 0
                change(file, marked)

    return apply


def save_palette(file, marked, colours=(0, 0, 0, 255, 255, 255)):
    picture = Image.fromarray(marked.astype(np.uint8), "P")
    picture.putpalette(colours)
    data = io.BytesIO()
    picture.save(data, "png")
    file.write_bytes(data.getvalue())


def save_bits(file, marked):
    data = io.BytesIO()
    Image.fromarray(marked).save(data, "png")
    file.write_bytes(data.getvalue())


def save_alpha(file, marked):
    pixels = np.zeros((*marked.shape, 4), np.uint8)
    pixels[marked] = 255
    save(file, pixels)


def save_opaque(file, marked):
    pixels = np.full((*marked.shape, 4), 255, np.uint8)
    pixels[..., :3] = marked[..., None] * 255
    save(file, pixels)


def save_colours(file, marked, first, second):
    """The upper half of what is marked in one colour, the lower one in another."""
    rows = np.flatnonzero(marked.any(axis=1))
    upper = (np.arange(len(marked)) <= (rows.mean() if len(rows) else 0))[:, None, None]
    save(file, np.where(marked[..., None], np.where(upper, first, second), 0).astype(np.uint8))


def save_numbers(file, marked):
    _, numbers = cv2.connectedComponents(marked.astype(np.uint8))
    rows, _ = np.nonzero(marked)
    if not len(rows):
        return
    numbers[rows.min() : rows.min() + 2] *= 2
    numbers[rows.max()] *= 3
    save(file, numbers.astype(np.uint8))


def save_jpeg(file, marked):
    new = file.with_suffix(".jpg")
    file.unlink()
    save(new, marked.astype(np.uint8) * 255, ".jpg")


def save_pages(file, marked):
    new = file.with_suffix(".tif")
    file.unlink()
    pages = [Image.fromarray(marked.astype(np.uint8) * 255), Image.fromarray((~marked).astype(np.uint8) * 255)]
    pages[0].save(new, save_all=True, append_images=pages[1:])


def save_float(file, marked):
    new = file.with_suffix(".tif")
    file.unlink()
    save(new, marked.astype(np.float32), ".tif")


SAME_MASKS = {
    "value 1": lambda f, m: put_mask(f, m, 1),
    "value 128": lambda f, m: put_mask(f, m, 128),
    "value 254": lambda f, m: put_mask(f, m, 254),
    "16 bits": lambda f, m: save(f, m.astype(np.uint16) * 65535),
    "16 bits of value 1": lambda f, m: save(f, m.astype(np.uint16)),
    "white in three channels": lambda f, m: save(f, np.repeat(m[..., None] * 255, 3, axis=2).astype(np.uint8)),
    "red": lambda f, m: save(f, np.stack([m * 0, m * 0, m * 255], axis=-1).astype(np.uint8)),
    "palette of black and white": save_palette,
    "one bit": save_bits,
    "opaque": save_opaque,
}
ODD_MASKS = {
    "palette of dark colours": lambda f, m: save_palette(f, m, (0, 0, 0, 128, 0, 0)),
    "palette of two bright colours": lambda f, m: save_palette(f, m, (255, 255, 255, 255, 0, 0)),
    "transparent": save_alpha,
    "class numbers": save_numbers,
    "JPEG": save_jpeg,
    "pages": save_pages,
    "floating point": save_float,
    "blurred": lambda f, m: save(f, cv2.GaussianBlur(m.astype(np.uint8) * 255, (5, 5), 0)),
    "bright colours of instances": lambda f, m: save_colours(f, m, (200, 40, 40), (40, 220, 40)),
    "dark colours of instances": lambda f, m: save_colours(f, m, (40, 0, 0), (0, 90, 20)),
    "another size": lambda f, m: put_mask(f, np.repeat(np.repeat(m, 2, 0), 2, 1)),
    "turned": lambda f, m: put_mask(f, np.rot90(m)),
    "one pixel": lambda f, m: put_mask(f, np.ones((1, 1), np.bool_)),
    "cut": lambda f, m: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "empty file": lambda f, m: f.write_bytes(b""),
    "a text": lambda f, m: f.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "in two files": lambda f, m: put_mask(f.with_suffix(".tiff"), m),
    "in a folder of its name": lambda f, m: (
        f.rename(f.with_suffix(".tmp")), f.mkdir(), f.with_suffix(".tmp").rename(f / f.name)
    ),
}  # fmt: skip
ODD_NUMBERS = {
    "value 255 alone": lambda f, m: put_mask(f, m, 255),
    "a value without a name": lambda f, m: put_mask(f, m, 9),
    "floating point": save_float,
    **{name: ODD_MASKS[name] for name in ("another size", "cut", "empty file", "a text", "one pixel",
                                          "bright colours of instances", "JPEG", "transparent", "turned",
                                          "in two files")},
}  # fmt: skip


def mask_faults():
    def of_masks(layout):
        return layout.kind == "mask"

    def of_numbers(layout):
        return layout.kind == "numbers"

    for name, change in SAME_MASKS.items():
        yield Fault(f"mask: {name}", of_masks, files=redraw(change))
        yield Fault(f"all masks: {name}", lambda y: y.kind == "mask" and first_of_format(y), files=redraw(change, True),
                    all=True, harmless=True)  # fmt: skip
    for name, change in ODD_MASKS.items():
        yield Fault(f"mask: {name}", of_masks, files=redraw(change), moved=name in ("blurred", "JPEG"))
    for name, change in ODD_NUMBERS.items():
        yield Fault(f"mask: {name}", of_numbers, files=redraw(change))
    yield Fault("mask: 16 bits", of_numbers, files=redraw(lambda f, m: save(f, m.astype(np.uint16))), harmless=True)
    yield Fault("mask: palette", of_numbers, files=redraw(save_palette), harmless=True)
    gone = remove(lambda b: b.masks[WHO])
    yield Fault("mask: missing", lambda y: y.kind in ("mask", "numbers") and not y.absent_is_good, files=gone)
    for name, change in (
        ("no pixel", lambda f, m: put_mask(f, m & False)),
        ("every pixel", lambda f, m: put_mask(f, m | True)),
    ):
        yield Fault(f"mask: {name}", lambda y: y.kind == "mask" and y.stated, files=redraw(change), moved=True)
    yield Fault("all masks: class numbers", of_masks, files=redraw(save_numbers, True), all=True)
    yield Fault("all masks: another size", of_masks, files=redraw(ODD_MASKS["another size"], True), all=True)
    yield Fault(
        "all masks: JPEG",
        lambda y: y.kind == "mask" and y.name != "magnetic-tile",
        files=redraw(save_jpeg, True),
        all=True,
        moved=True,
    )

    def orphan(built):
        file = built.masks[WHO]
        folder = file.parent.with_name("zz") if file.parent.name == WHO else file.parent
        folder.mkdir(exist_ok=True)
        shutil.copy(file, folder / (file.name if folder != file.parent else file.name.replace(WHO, "zz", 1)))

    yield Fault("mask: of no image", of_masks, files=orphan)
    yield Fault("mask: of no image", of_numbers, files=orphan)


# --- images ---


def replace_image(change):
    return lambda built: change(built.images[WHO])


def write_pages(file):
    pages = [Image.fromarray(np.random.default_rng(n).integers(0, 256, SIZE, np.uint8)) for n in range(4)]
    data = io.BytesIO()
    pages[0].save(data, "tiff", save_all=True, append_images=pages[1:])
    file.write_bytes(data.getvalue())


NOISE = np.random.default_rng(7).integers(0, 256, (*SIZE, 3), np.uint8)
IMAGE_EDITS = {
    "cut": lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "empty": lambda f: f.write_bytes(b""),
    "a text": lambda f: f.write_bytes(b"<html>404</html>"),
    "16 bits": lambda f: save(f, NOISE.astype(np.uint16) * 257),
    "grey": lambda f: save(f, NOISE[..., 0]),
    "transparent": lambda f: save(f, np.dstack([NOISE, NOISE[..., 0]])),
    "pages": write_pages,
    "one pixel": lambda f: save(f, NOISE[:1, :1]),
    "another size": lambda f: save(f, np.repeat(np.repeat(NOISE, 2, 0), 3, 1)),
    "turned": lambda f: save(f, np.ascontiguousarray(np.rot90(NOISE))),
    "a link to nothing": lambda f: (f.unlink(), f.symlink_to(f.with_name("nothing.png"))),
}


OTHER_SIZES = ("one pixel", "another size", "turned")


def link_images(built):
    store = built.images[WHO].parents[1] / ".store" if built.root.is_dir() else built.root.parent / ".store"
    store.mkdir(exist_ok=True)
    for n, file in enumerate(built.images.values()):
        if file.is_file():
            file.rename(store / f"{n}{file.suffix}")
            file.symlink_to(store / f"{n}{file.suffix}")


def link_root(built):
    root = built.root if built.root.is_dir() else built.root.parent
    root.rename(root.with_name("elsewhere"))
    root.symlink_to("elsewhere", target_is_directory=True)


def link_folder(built):
    folder = built.images[WHO].parent
    root = built.root if built.root.is_dir() else built.root.parent
    other = root.with_name("store")
    folder.rename(other)
    folder.symlink_to(other, target_is_directory=True)


def add_loop(built):
    folder = built.images[WHO].parent
    (folder / "again").symlink_to(folder, target_is_directory=True)


def add_junk(built):
    folders = {file.parent for files in (built.images, built.notes, built.masks) for file in files.values()}
    for folder in folders:
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (folder / name).write_bytes(b"\0\1\2")
    for file in (built.images[WHO], *([built.notes[WHO]] if WHO in built.notes else [])):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")


def upper_suffix(built):
    file = built.images[WHO]
    file.rename(file.with_suffix(file.suffix.swapcase()))
    built.images[WHO] = file.with_suffix(file.suffix.swapcase())


def same_stem(built):
    write_picture(built.images[WHO].with_suffix(".tif"), 60)


def same_name_below(built):
    write_picture(built.images[WHO].parent / "more" / built.images[WHO].name, 61)


def unmatch(built):
    file = built.images[WHO]
    file.rename(file.with_name(file.name.replace(WHO, "zzz", 1)))


def image_faults():
    for name, change in IMAGE_EDITS.items():
        yield Fault(f"image: {name}", any_layout, files=replace_image(change), moved=name in OTHER_SIZES)
    yield Fault(
        "image: missing", lambda y: y.name not in ("classes", "classes-split"), files=replace_image(Path.unlink)
    )
    yield Fault("images: links", first_of_format, files=link_images, harmless=True)
    yield Fault("folder: a link", first_of_format, files=link_root, harmless=True)
    yield Fault("folder of images: a link", first_of_format, files=link_folder, harmless=True)
    yield Fault("folder of images: a link to itself within", first_of_format, files=add_loop, harmless=True)
    yield Fault("files of the system beside the images", first_of_format, files=add_junk, harmless=True)
    yield Fault("image: suffix in other case", any_layout, files=upper_suffix)
    yield Fault("image: another of the same stem", lambda y: y.name != "severstal", files=same_stem)
    yield Fault(
        "image: another of the same name in a folder below", lambda y: not y.absent_is_good, files=same_name_below
    )
    yield Fault("image: another name than its annotation",
                lambda y: y.name not in ("classes", "classes-split"), files=unmatch)  # fmt: skip


# --- names ---

NAMES = {
    "a blank": "c 1",
    "an umlaut": "prüfling",
    "an umlaut in two characters": unicodedata.normalize("NFD", "prüfling"),
    "Chinese": "缺陷",
    "an apostrophe": "c'1",
    "brackets": "c[1](2)",
    "dots": "c.1.v2",
    "a dash first": "-c",
    "percent signs": "c%20d",
    "an ampersand": "c&d",
    "a hash": "c#1",
    "a plus": "c+1",
    "200 characters": "c" * 200,
    "capitals": "CC",
    "the end of a mask's name": "c_mask",
    "a number": "000123",
    "no UTF-8": os.fsdecode(b"c\xff\xfe"),
}


def name_faults():
    for what, name in NAMES.items():
        yield Fault(
            f"name: {what}", lambda y: y.free_names and first_of_format(y) and y.name not in ("neu-det",),
            spec=lambda s, name=name: s.change(WHO, name=name), renamed=name,
        )  # fmt: skip


# --- boxes and outlines ---

BOXES = {
    "partly outside": (20, 10, 60, 40),
    "partly before the image": (-6, -4, 10, 8),
    "wholly outside": (100, 100, 120, 110),
    "wholly before the image": (-30, -30, -10, -10),
    "swapped corners": (16, 12, 6, 4),
    "no area": (6, 4, 6, 12),
    "a point": (6, 4, 6, 4),
    "NaN": (float("nan"), 4, 16, 12),
    "infinite": (6, 4, float("inf"), 12),
    "huge": (6, 4, 1e30, 12),
    "a word": (6, 4, 16, "abc"),
    "an empty word": (6, "", 16, 12),
    "a comma in place of a point": (6, 4, 16, "12,5"),
    "shares in place of pixels": (6 / 32, 4 / 24, 16 / 32, 12 / 24),
    "pixels in place of shares": (6 * 32, 4 * 24, 16 * 32, 12 * 24),
}
MARKS = {"good": "OK", "background": "background", "ignore": "__ignore__", "empty": "", "blanks": "  "}


def box_faults():
    def of_boxes(layout):
        return layout.has_numbers

    for name, box in BOXES.items():
        yield Fault(f"box: {name}", of_boxes, spec=lambda s, box=box: s.change(WHO, box=box), moved=True)
    for name, mark in MARKS.items():
        yield Fault(
            f"class: {name}", lambda y: y.has_numbers or y.kind == "runs",
            spec=lambda s, mark=mark: replace(
                s.change(WHO, mark=mark), classes=(*s.classes, *([mark] if mark.strip() else []))
            ),
            truth={WHO: "good"} if name == "good" else {}, moved=True,
        )  # fmt: skip
    yield Fault("class: unknown", lambda y: y.closed and y.kind != "numbers",
                spec=lambda s: s.change(WHO, mark="unheard"))  # fmt: skip
    yield Fault("class: unknown", lambda y: y.kind == "numbers", spec=lambda s: s.change(WHO, mark="unheard"))
    yield Fault(
        "classes: background first", lambda y: y.closed and y.kind != "numbers",
        spec=lambda s: replace(s, classes=("background", *s.classes)), harmless=True,
    )  # fmt: skip
    for name, recorded, box in (
        ("twice the size", (48, 64), (12, 8, 32, 24)),
        ("half the size", (12, 16), (3, 2, 8, 6)),
    ):
        yield Fault(
            f"recorded size: {name}", lambda y: y.sizes,
            spec=lambda s, recorded=recorded, box=box: s.change(WHO, recorded=recorded, box=box), moved=False,
        )  # fmt: skip
    for name, recorded in (
        ("another shape", (24, 64)),
        ("nought", (0, 0)),
        ("negative", (-24, -32)),
        ("turned", (32, 24)),
        ("huge", (10**9, 10**9)),
    ):
        yield Fault(f"recorded size: {name}", lambda y: y.sizes,
                    spec=lambda s, recorded=recorded: s.change(WHO, recorded=recorded), moved=True)  # fmt: skip


# --- lists and folders ---


def listed(layout):
    return layout.name in _SHARED or layout.name in ("visa", "dagm", "real-iad", "csv-masks")


def rename_good(new):
    def apply(built):
        for folder in sorted((p for p in built.root.rglob("good") if p.is_dir()), reverse=True):
            folder.rename(folder.with_name(new))
        for name, file in built.images.items():
            built.images[name] = Path(*(new if step == "good" else step for step in file.parts))

    return apply


def list_faults():
    ghost = defective("ghost", "dent", (2, 2, 8, 8), exists=False)
    yield Fault("annotation of an image that is missing", lambda y: y.kind != "label" or y.name in _SHARED,
                spec=lambda s: s.add(ghost))  # fmt: skip
    yield Fault("annotation of a good image that is missing", lambda y: y.has_text and y.free_names,
                spec=lambda s: s.add(Item("ghost", exists=False)))  # fmt: skip
    yield Fault("image that is not listed", lambda y: listed(y) and not y.absent_is_good and y.format != "csv",
                spec=lambda s: s.change(WHO, listed=0))  # fmt: skip
    yield Fault("image that is listed twice", listed, spec=lambda s: s.change(WHO, listed=2), all=True)
    yield Fault(
        "image that is listed as good, too", lambda y: y.name in _SHARED and y.name != "severstal",
        spec=lambda s: s.add(Item(WHO)), all=True,
    )  # fmt: skip
    for name, recorded in {
        "of Windows": lambda p: "C:\\data\\set 1\\" + p.replace("/", "\\"),
        "of another computer": lambda p: f"/home/somebody/set/{p}",
        "with a dot first": lambda p: f"./{p}",
        "with a folder more": lambda p: f"data/{p}",
        "in capitals": str.upper,
    }.items():
        yield Fault(f"paths: {name}", lambda y: y.paths and (first_of_format(y) or y.format == "csv"),
                    spec=lambda s, recorded=recorded: replace(s, recorded=recorded), all=True)  # fmt: skip
    for name in ("OK", "0.normal", "ok_front", "Good Parts", "good_01", "non-defective"):
        yield Fault(f"folder of good images: {name}", _has_good_folder, files=rename_good(name), all=True,
                    truth={"a": "good", "b": "good"}, harmless=True)  # fmt: skip
    for name in ("0", "gut", "ok_spots", "images"):
        yield Fault(f"folder of good images: {name}", _has_good_folder, files=rename_good(name), all=True,
                    truth={"a": name, "b": name})  # fmt: skip
    yield Fault("copy of a good image among the defective", lambda y: first_of_format(y) and y.good, files=copy_good)


def _has_good_folder(layout):
    return layout.name in ("mvtec", "classes", "classes-split", "good-defect", "good-defect-classes", "masks-by-class")


def copy_good(built):
    shutil.copyfile(built.images["a"], built.images[WHO])


FAULTS = (
    *text_faults(), *mask_faults(), *image_faults(), *name_faults(), *box_faults(), *list_faults(),
)  # fmt: skip
