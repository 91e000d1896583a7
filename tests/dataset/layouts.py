"""One tiny set of images, written by hand in every layout that is read: two good images, three with a defect.

Nothing here but images is written by blemish's own writers, so that the readers are tested against something else.
"""

import base64
import io
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish.dataset.formats.label_studio import encode_brush
from blemish.imaging.read import write_image

SIZE = HEIGHT, WIDTH = 24, 32
GOOD_WORD = "good"
CLASSES = ("dent", "pit")


@dataclass(frozen=True)
class Item:
    """An image of the set: its class, and one defect, as a box (x0, y0, x1, y1) of any values, or as a mask."""

    name: str
    label: str = GOOD_WORD  # as a folder or column states it
    box: tuple[Any, Any, Any, Any] | None = None
    mark: str = ""  # class of the box, outline or mask
    pixels: Any = None  # (H, W) bool; those of the box where there are none
    exists: bool = True
    listed: int = 1  # times that it is annotated
    recorded: tuple[int, int] = SIZE

    @property
    def mask(self):
        if self.pixels is not None or self.box is None:
            return self.pixels
        x0, y0, x1, y1 = self.box
        mask = np.zeros(SIZE, np.bool_)
        mask[y0:y1, x0:x1] = True
        return mask

    @property
    def outline(self):
        x0, y0, x1, y1 = self.box
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]

    @property
    def defective(self):
        return self.label != GOOD_WORD


def defective(name, label, box, **more):
    return Item(name, label, box, label, **more)


@dataclass(frozen=True)
class Spec:
    items: tuple[Item, ...] = (
        Item("a"),
        Item("b"),
        defective("c", "dent", (6, 4, 16, 12)),
        defective("d", "pit", (10, 5, 20, 15)),
        defective("e", "dent", (3, 3, 9, 9)),
    )
    classes: tuple[str, ...] = CLASSES  # as a list of names holds them
    recorded: Callable[[str], str] = str  # how the path of an image is written

    def change(self, who, **fields):
        return replace(self, items=tuple(replace(i, **fields) if i.name == who else i for i in self.items))

    def add(self, *items):
        return replace(self, items=(*self.items, *items))

    @property
    def rows(self):
        """The images as often as each is annotated, with their numbers."""
        return [(n, item) for n, item in enumerate(self.items) for _ in range(item.listed)]


@dataclass
class Built:
    """The files of a set."""

    root: Path  # what is read
    images: dict[str, Path] = field(default_factory=dict)
    notes: dict[str, Path] = field(default_factory=dict)  # an image's own file of annotations
    masks: dict[str, Path] = field(default_factory=dict)
    shared: list[Path] = field(default_factory=list)  # files of annotations of all images


@dataclass(frozen=True, eq=False)
class Layout:
    name: str
    format: str
    build: Callable[[Path, Spec], Built]
    kind: (
        str  # "label", "box", "outline", "mask" (files), "numbers" (files of class numbers) or "runs" (masks in texts)
    )
    stated: bool = False  # whether a folder, name or column states what an image is
    classes: bool = True  # whether it keeps names of classes
    free_names: bool = True  # whether images may have any name
    closed: bool = False  # whether it has a list of classes
    absent_is_good: bool = False
    blank_is_good: bool = False  # an empty file is an empty annotation
    sizes: bool = False  # whether it records the size of images
    paths: bool = False  # whether it records their paths
    good: bool = True  # whether there are good images
    labels: dict[str, str] = field(default_factory=dict)  # its names of the classes, where they are others

    @property
    def has_text(self):
        return self.kind in ("box", "outline", "runs", "label") and self.name not in ("classes", "classes-split")

    @property
    def has_numbers(self):
        return self.kind in ("box", "outline")


def write_picture(path: Path, seed: int, size=SIZE):
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def put(file: Path, content: str):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8", errors="surrogateescape")


def put_json(file: Path, content):
    put(file, json.dumps(content, ensure_ascii=False))


def put_mask(file: Path, pixels, value=255):
    write_image(file, (pixels * value).astype(np.uint8))


def num(function, *values):
    """The result, or the first value that is no number, for a word in place of one."""
    words = [v for v in values if not isinstance(v, int | float)]
    with suppress(ZeroDivisionError):
        return words[0] if words else function(*values)
    return 0.0


def share(value, whole):
    return num(lambda v: v / whole, value)


def start(root, spec, place, suffix=".png"):
    """Write the images at `place(item)`, without a suffix."""
    built = Built(root)
    for seed, item in enumerate(spec.items):
        path = root / f"{place(item)}{suffix}"
        built.images[item.name] = path
        if item.exists:
            write_picture(path, seed)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
    return built


def mask_tree(root, spec, image_place, mask_place, suffix=".png", goods=False, value=255, mask_suffix=".png"):
    built = start(root, spec, image_place, suffix)
    for item in spec.items:
        if item.listed and (item.mask is not None or goods):
            file = root / f"{mask_place(item)}{mask_suffix}"
            pixels = np.zeros(SIZE, np.bool_) if item.mask is None else item.mask
            put_mask(file, pixels, value(item) if callable(value) else value)
            built.masks[item.name] = file
    return built


def number_of(item, spec):
    """Number of a class, from 1; one beyond the list for a class that is not in it."""
    return spec.classes.index(item.mark) + 1 if item.mark in spec.classes else 1 if not item.mark else 77


def split_of(item):
    return "train" if item.label == GOOD_WORD and item.name == "a" else "test"


def mvtec(root, spec):
    return mask_tree(
        root, spec, lambda i: f"{split_of(i)}/{i.label}/{i.name}", lambda i: f"ground_truth/{i.label}/{i.name}_mask"
    )


def mvtec_products(root, spec):
    built = mvtec(root / "screw", spec)
    built.root = root
    write_picture(root / "nut/train/good/n.png", 90)
    write_picture(root / "nut/test/good/m.png", 91)
    return built


def mvtec_loco(root, spec):
    return mask_tree(
        root, spec, lambda i: f"{split_of(i)}/{i.label}/{i.name}", lambda i: f"ground_truth/{i.label}/{i.name}/000"
    )


def mvtec_ad2(root, spec):
    def place(item):
        if item.defective:
            return f"test_public/bad/{item.name}"
        return f"{'train' if item.name == 'a' else 'test_public'}/good/{item.name}"

    return mask_tree(root, spec, place, lambda i: f"test_public/ground_truth/bad/{i.name}_mask")


def good_defect(root, spec):
    return mask_tree(
        root, spec, lambda i: f"{'defect' if i.defective else 'good'}/{i.name}", lambda i: f"masks/{i.name}"
    )


def good_defect_classes(root, spec):
    def place(item):
        return f"defect/{item.label}/{item.name}" if item.defective else f"good/{item.name}"

    return mask_tree(root, spec, place, lambda i: f"masks/{i.label}/{i.name}")


def views(root, spec):
    """Each image is the view `top` of a part."""
    return mask_tree(root, spec, lambda i: f"{i.label}/{i.name}/top", lambda i: f"masks/{i.label}/{i.name}/top")


def classes(root, spec):
    return start(root, spec, lambda i: f"{i.label}/{i.name}")


def classes_split(root, spec):
    return start(root, spec, lambda i: f"{'train' if i.name < 'd' else 'test'}/{i.label}/{i.name}")


def masks(root, spec):
    return mask_tree(root, spec, lambda i: f"images/{i.name}", lambda i: f"masks/{i.name}", goods=True)


def masks_by_class(root, spec):
    return mask_tree(root, spec, lambda i: f"images/{i.label}/{i.name}", lambda i: f"masks/{i.label}/{i.name}")


def magnetic_tile(root, spec):
    def place(item):
        return f"MT_{'Free' if item.label == GOOD_WORD else item.label}/Imgs/{item.name}"

    return mask_tree(root, spec, place, place, suffix=".bmp", goods=True)


def class_masks(root, spec):
    built = mask_tree(
        root, spec, lambda i: f"images/{i.name}", lambda i: f"masks/{i.name}", goods=True,
        value=lambda i: number_of(i, spec),
    )  # fmt: skip
    put(root / "classes.txt", "".join(f"{name}\n" for name in spec.classes))
    built.shared = [root / "classes.txt"]
    return built


def roboflow(root, spec):
    built = mask_tree(
        root, spec, lambda i: f"train/{i.name}", lambda i: f"train/{i.name}_mask", goods=True, suffix=".jpg",
        value=lambda i: number_of(i, spec),
    )  # fmt: skip
    rows = "".join(f"{n}, {name}\n" for n, name in enumerate(("background", *spec.classes)))
    put(root / "train/_classes.csv", f"Pixel Value, Class\n{rows}")
    built.shared = [root / "train/_classes.csv"]
    return built


def kolektor(root, spec):
    return mask_tree(
        root, spec, lambda i: f"kos01/{i.name}", lambda i: f"kos01/{i.name}_label", suffix=".jpg", goods=True,
        mask_suffix=".bmp",
    )  # fmt: skip


def kolektor_sdd2(root, spec):
    return mask_tree(root, spec, lambda i: f"train/{i.name}", lambda i: f"train/{i.name}_GT", goods=True)


def visa(root, spec):
    built = mask_tree(
        root, spec, lambda i: f"chip/Data/Images/{'Anomaly' if i.defective else 'Normal'}/{i.name}",
        lambda i: f"chip/Data/Masks/Anomaly/{i.name}", suffix=".JPG", value=1,
    )  # fmt: skip
    rows = ["object,split,label,image,mask"]
    for _, item in spec.rows:
        image = spec.recorded(built.images[item.name].relative_to(root).as_posix())
        mask = built.masks.get(item.name)
        text = spec.recorded(mask.relative_to(root).as_posix()) if mask else ""
        rows.append(f"chip,train,{'anomaly' if item.defective else 'normal'},{image},{text}")
    put(root / "split_csv/1cls.csv", "\n".join(rows) + "\n")
    built.shared = [root / "split_csv/1cls.csv"]
    return built


def dagm(root, spec):
    built = mask_tree(
        root, spec, lambda i: f"Class1/Train/{i.name}", lambda i: f"Class1/Train/Label/{i.name}_label", suffix=".PNG",
        mask_suffix=".PNG",
    )  # fmt: skip
    lines = ["1"]
    for number, item in spec.rows:
        mask = f"{item.name}_label.PNG" if item.defective else "0"
        lines.append(f"{number}\t{int(item.defective)}\t{item.name}.PNG\t{int(item.defective)}\t{mask}")
    put(root / "Class1/Train/Label/Labels.txt", "\n".join(lines) + "\n")
    built.shared = [root / "Class1/Train/Label/Labels.txt"]
    return built


def real_iad(root, spec):
    codes = {"good": "OK", "dent": "AK", "pit": "HS"}
    base = "realiad_256/nut"
    built = mask_tree(
        root, spec, lambda i: f"{base}/{codes.get(i.label, i.label)}/S{i.name}/{i.name}",
        lambda i: f"{base}/{codes.get(i.label, i.label)}/S{i.name}/{i.name}_m", suffix=".jpg",
    )  # fmt: skip
    rows = []
    for _, item in spec.rows:
        code = codes.get(item.label, item.label)
        mask = spec.recorded(f"{code}/S{item.name}/{item.name}_m.png") if item.name in built.masks else None
        rows.append(
            {
                "category": "nut", "anomaly_class": code, "mask_path": mask,
                "image_path": spec.recorded(f"{code}/S{item.name}/{item.name}.jpg"),
            }
        )  # fmt: skip
    content = {"meta": {"prefix": "nut", "normal_class": "OK"}, "train": rows[:1], "test": rows[1:]}
    put_json(root / "realiad_jsons/realiad_jsons/nut.json", content)
    built.shared = [root / "realiad_jsons/realiad_jsons/nut.json"]
    return built


def voc_text(item, word=str, first=1):
    """The XML of an image, whose boxes count pixels from `first` on."""
    objects = ""
    if item.box is not None:
        x0, y0, x1, y1 = item.box
        corners = {"xmin": num(lambda v: v + first, x0), "ymin": num(lambda v: v + first, y0), "xmax": x1, "ymax": y1}
        texts = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
        objects = f"<object><name>{word(item.mark)}</name><bndbox>{texts}</bndbox></object>"
    height, width = item.recorded
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{item.name}.jpg</filename>{size}{objects}</annotation>\n"


def notes(built, spec, place, content):
    """Write each image's own annotation, at `place(item)`."""
    for _, item in spec.rows:
        built.notes[item.name] = built.root / place(item)
        put(built.notes[item.name], content(item))
    return built


def voc(root, spec):
    built = start(root, spec, lambda i: f"JPEGImages/{i.name}", ".jpg")
    return notes(built, spec, lambda i: f"Annotations/{i.name}.xml", voc_text)


def voc_beside(root, spec):
    built = start(root, spec, lambda i: f"train/{i.name}")
    return notes(built, spec, lambda i: f"train/{i.name}.xml", voc_text)


def neu_det(root, spec):
    def place(item):
        return f"{item.label}_{'abcdefghijkl'.find(item.name[0]) + 1}"

    built = start(root, spec, lambda i: f"IMAGES/{place(i)}", ".jpg")
    return notes(built, spec, lambda i: f"ANNOTATIONS/{place(i)}.xml", voc_text)


def gc10_det(root, spec):
    words = {"dent": "1_chongkong", "pit": "2_hanfeng"}
    spec = replace(
        spec,
        items=tuple(
            replace(i, label="dent", box=(2, 2, 7, 7), mark="dent") if not i.defective and i.name in "ab" else i
            for i in spec.items
        ),
    )
    folders = {"dent": "1", "pit": "2"}
    built = start(root, spec, lambda i: f"{folders.get(i.label, '1')}/{i.name}", ".jpg")
    return notes(built, spec, lambda i: f"lable/{i.name}.xml", lambda i: voc_text(i, lambda w: words.get(w, w)))


def yolo_line(item, spec):
    if item.box is None:
        return ""
    x0, y0, x1, y1 = item.box
    values = (
        share(num(lambda a, b: (a + b) / 2, x0, x1), WIDTH), share(num(lambda a, b: (a + b) / 2, y0, y1), HEIGHT),
        share(num(lambda a, b: b - a, x0, x1), WIDTH), share(num(lambda a, b: b - a, y0, y1), HEIGHT),
    )  # fmt: skip
    return f"{number_of(item, spec) - 1} {' '.join(map(str, values))}\n"


def yolo(root, spec):
    built = start(root, spec, lambda i: f"images/train/{i.name}")
    names = "".join(f"  {n}: {name}\n" for n, name in enumerate(spec.classes))
    put(root / "data.yaml", f"path: .\ntrain: images/train\nnames:\n{names}")
    built.shared = [root / "data.yaml"]
    return notes(built, spec, lambda i: f"labels/train/{i.name}.txt", lambda i: yolo_line(i, spec))


def yolo_list(root, spec):
    built = start(root, spec, lambda i: f"images/{i.name}")
    put(root / "classes.txt", "".join(f"{name}\n" for name in spec.classes))
    built.shared = [root / "classes.txt"]
    return notes(built, spec, lambda i: f"labels/{i.name}.txt", lambda i: yolo_line(i, spec))


def yolo_outlines(root, spec):
    built = start(root, spec, lambda i: f"images/{i.name}")
    put(root / "classes.txt", "".join(f"{name}\n" for name in spec.classes))
    built.shared = [root / "classes.txt"]

    def line(item):
        if item.box is None:
            return ""
        values = [str(share(v, whole)) for x, y in item.outline for v, whole in ((x, WIDTH), (y, HEIGHT))]
        return f"{number_of(item, spec) - 1} {' '.join(values)}\n"

    return notes(built, spec, lambda i: f"labels/{i.name}.txt", line)


def coco_of(kind):
    def fields(item):
        x0, y0, x1, y1 = item.box or (0, 0, WIDTH, HEIGHT)
        bbox = [x0, y0, num(lambda a, b: b - a, x0, x1), num(lambda a, b: b - a, y0, y1)]
        if kind == "box":
            return {"bbox": bbox}
        if kind == "outline":
            return {"bbox": bbox, "segmentation": [[v for point in item.outline for v in point]]}
        flat = np.concatenate([[False], item.mask.T.ravel()])
        edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
        runs = np.diff([0, *edges.tolist(), item.mask.size]).tolist()
        return {"bbox": [], "iscrowd": 0, "segmentation": {"size": [*SIZE], "counts": runs}}

    def build(root, spec):
        built = start(root, spec, lambda i: f"images/{i.name}")
        images = [
            {
                "id": n, "file_name": spec.recorded(f"images/{i.name}.png"), "height": i.recorded[0],
                "width": i.recorded[1],
            }
            for n, i in spec.rows
        ]  # fmt: skip
        rows = [
            {"id": n, "image_id": n, "category_id": number_of(i, spec), **fields(i)}
            for n, i in spec.rows if i.box is not None or i.pixels is not None
        ]  # fmt: skip
        names = [{"id": n, "name": name} for n, name in enumerate(spec.classes, 1)]
        put_json(root / "annotations.json", {"images": images, "annotations": rows, "categories": names})
        built.shared = [root / "annotations.json"]
        return built

    return build


def labelme_row(item, kind):
    row = {"label": item.mark, "group_id": None, "flags": {}}
    if kind == "box":
        x0, y0, x1, y1 = item.box
        return row | {"shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]}
    if kind == "outline":
        return row | {"shape_type": "polygon", "points": item.outline}
    left, top, crop = cropped(item.mask)
    corners = [[left, top], [left + crop.shape[1] - 1, top + crop.shape[0] - 1]]
    return row | {"shape_type": "mask", "points": corners, "mask": packed_png(crop)}


def cropped(mask):
    """(left, top, pixels) of the rectangle around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def packed_png(mask, pack=lambda data: data):
    return base64.b64encode(pack(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())).decode()


def marked(item):
    return item.box is not None or item.pixels is not None


def labelme_of(kind, images="", labels=""):
    def build(root, spec):
        built = start(root, spec, lambda i: f"{images}{i.name}", ".jpg")

        def content(item):
            height, width = item.recorded
            shapes = [labelme_row(item, kind)] if marked(item) else []
            head = {"version": "5.4.0", "flags": {}, "shapes": shapes, "imagePath": f"{item.name}.jpg"}
            return json.dumps(head | {"imageData": None, "imageHeight": height, "imageWidth": width})

        return notes(built, spec, lambda i: f"{labels}{i.name}.json", content)

    return build


def deeppcb(root, spec):
    built = start(root, spec, lambda i: f"group1/0001/{i.name}_test", ".jpg")
    for seed, item in enumerate(spec.items):
        write_picture(root / f"group1/0001/{item.name}_temp.jpg", 50 + seed)
    numbers = {"dent": 1, "pit": 2}

    def content(item):
        box = "" if item.box is None else " ".join(map(str, item.box))
        return f"{box} {numbers.get(item.mark, 9)}\n" if box else ""

    return notes(built, spec, lambda i: f"group1/0001_not/{i.name}.txt", content)


def severstal(root, spec):
    built = start(root, spec, lambda i: f"train_images/{i.name}", ".jpg")
    rows = ["ImageId,ClassId,EncodedPixels"]
    for _, item in spec.rows:
        if item.mask is not None:
            flat = np.concatenate([[False], item.mask.T.ravel(), [False]])
            edges = np.flatnonzero(np.diff(flat.astype(np.int8)))
            runs = " ".join(f"{a + 1} {b - a}" for a, b in zip(edges[::2], edges[1::2], strict=True))
            rows.append(f"{spec.recorded(item.name + '.jpg')},{item.mark},{runs}")
    put(root / "train.csv", "\n".join(rows) + "\n")
    built.shared = [root / "train.csv"]
    return built


def elpv(root, spec):
    built = start(root, spec, lambda i: f"images/{i.name}")
    rows = [f"images/{i.name}.png {float(i.defective)} mono\n" for _, i in spec.rows]
    put(root / "labels.csv", "".join(rows))
    built.shared = [root / "labels.csv"]
    return built


def label_studio_of(kind):
    def region(item):
        height, width = item.recorded
        row = {
            "id": "r", "from_name": "label", "to_name": "image", "image_rotation": 0, "original_width": width,
            "original_height": height,
        }  # fmt: skip
        if kind == "box":
            x0, y0, x1, y1 = item.box
            value = {
                "x": share(x0, width / 100), "y": share(y0, height / 100), "rotation": 0,
                "width": share(num(lambda a, b: b - a, x0, x1), width / 100),
                "height": share(num(lambda a, b: b - a, y0, y1), height / 100),
            }  # fmt: skip
            name = "rectanglelabels"
        elif kind == "outline":
            value = {"points": [[share(x, width / 100), share(y, height / 100)] for x, y in item.outline]}
            name = "polygonlabels"
        else:
            value, name = {"format": "rle", "rle": encode_brush(item.mask)}, "brushlabels"
        return row | {"type": name, "value": value | {name: [item.mark]}}

    def build(root, spec):
        built = start(root, spec, lambda i: f"images/{i.name}")
        tasks = [
            {
                "id": n, "data": {"image": spec.recorded(f"images/{i.name}.png")},
                "annotations": [{"was_cancelled": False, "result": [region(i)] if marked(i) else []}],
            }
            for n, i in spec.rows
        ]  # fmt: skip
        put_json(root / "export.json", tasks)
        built.shared = [root / "export.json"]
        return built

    return build


def cvat_of(kind):
    def shape(item):
        if not marked(item):
            return '<tag label="good"/>'
        if kind == "box":
            corners = zip(("xtl", "ytl", "xbr", "ybr"), item.box, strict=True)
            return f'<box label="{item.mark}" {" ".join(f"{key}={chr(34)}{v}{chr(34)}" for key, v in corners)}/>'
        if kind == "outline":
            return f'<polygon label="{item.mark}" points="{";".join(f"{x},{y}" for x, y in item.outline)}"/>'
        left, top, crop = cropped(item.mask)
        flat = np.concatenate([[False], crop.ravel()])
        edges = np.flatnonzero(np.diff(flat.astype(np.int8))).tolist()
        runs = ", ".join(map(str, np.diff([0, *edges, crop.size]).tolist()))
        place = f'left="{left}" top="{top}" width="{crop.shape[1]}" height="{crop.shape[0]}"'
        return f'<mask label="{item.mark}" rle="{runs}" {place}/>'

    def build(root, spec):
        built = start(root, spec, lambda i: f"images/{i.name}")
        names = "".join(f"<label><name>{name}</name></label>" for name in (*spec.classes, "good"))
        rows = "".join(
            f'<image id="{n}" name="{spec.recorded(i.name + ".png")}" width="{i.recorded[1]}" '
            f'height="{i.recorded[0]}">{shape(i)}</image>\n'
            for n, i in spec.rows
        )
        meta = f"<meta><task><labels>{names}</labels></task></meta>"
        put(root / "annotations.xml", f"<annotations><version>1.1</version>{meta}\n{rows}</annotations>\n")
        built.shared = [root / "annotations.xml"]
        return built

    return build


def supervisely_of(kind):
    def item_row(item):
        row = {"classTitle": item.mark, "tags": []}
        if kind == "box":
            x0, y0, x1, y1 = item.box
            corners = [[x0, y0], [num(lambda v: v - 1, x1), num(lambda v: v - 1, y1)]]
            return row | {"geometryType": "rectangle", "points": {"exterior": corners, "interior": []}}
        if kind == "outline":
            return row | {"geometryType": "polygon", "points": {"exterior": item.outline, "interior": []}}
        left, top, crop = cropped(item.mask)
        bitmap = {"origin": [left, top], "data": packed_png(crop, zlib.compress)}
        return row | {"geometryType": "bitmap", "bitmap": bitmap}

    def build(root, spec):
        built = start(root, spec, lambda i: f"train/img/{i.name}", ".jpg")
        rows = [{"title": name, "shape": "any", "color": "#FF0000"} for name in spec.classes]
        put_json(root / "meta.json", {"classes": rows, "tags": [{"name": "good", "value_type": "none"}]})
        built.shared = [root / "meta.json"]

        def content(item):
            tags = [] if marked(item) else [{"name": "good", "value": None}]
            objects = [item_row(item)] if marked(item) else []
            size = {"height": item.recorded[0], "width": item.recorded[1]}
            return json.dumps({"description": "", "tags": tags, "size": size, "objects": objects})

        return notes(built, spec, lambda i: f"train/ann/{i.name}.jpg.json", content)

    return build


def fiftyone_of(kind):
    def detection(item):
        if kind == "runs":
            left, top, crop = cropped(item.mask)
            box = (left, top, left + crop.shape[1], top + crop.shape[0])
            data = io.BytesIO()
            np.save(data, crop)
            packed = {"mask": {"$binary": {"base64": base64.b64encode(zlib.compress(data.getvalue())).decode()}}}
        else:
            box, packed = item.box, {}
        x0, y0, x1, y1 = box
        numbers = [
            share(x0, WIDTH), share(y0, HEIGHT), share(num(lambda a, b: b - a, x0, x1), WIDTH),
            share(num(lambda a, b: b - a, y0, y1), HEIGHT),
        ]  # fmt: skip
        return {"_cls": "Detection", "label": item.mark, "bounding_box": numbers} | packed

    def build(root, spec):
        built = start(root, spec, lambda i: f"data/{i.name}")
        samples = [
            {
                "filepath": spec.recorded(f"data/{i.name}.png"), "tags": [],
                "metadata": {"width": i.recorded[1], "height": i.recorded[0]},
                "ground_truth": {"_cls": "Detections", "detections": [detection(i)] if marked(i) else []},
            }
            for _, i in spec.rows
        ]  # fmt: skip
        put_json(root / "samples.json", {"samples": samples})
        built.shared = [root / "samples.json"]
        return built

    return build


def csv_of(kind):
    def cell(item, built):
        if kind == "label":
            return item.label
        if kind == "mask":
            return built.masks[item.name].relative_to(built.root.parent).as_posix()
        if item.box is None:
            return "[]"
        if kind == "box":
            return f"[[{', '.join(map(word, item.box))}, {json.dumps(item.mark)}]]"
        return f"[{json.dumps({'label': item.mark, 'rings': [item.outline]})}]"

    def word(value):
        return json.dumps(value) if isinstance(value, int | float) else f'"{value}"'

    def build(root, spec):
        built = mask_tree(
            root, spec, lambda i: f"pictures/{i.name}", lambda i: f"marks/{i.name}", goods=True,
        ) if kind == "mask" else start(root, spec, lambda i: f"pictures/{i.name}")  # fmt: skip
        built.root = root / "list.csv"
        column = {"label": "label", "mask": "mask", "box": "boxes", "outline": "shapes"}[kind]
        lines = [f"image;{column}"]
        for _, item in spec.rows:
            text = spec.recorded(f"pictures/{item.name}.png")
            quoted = chr(34) + cell(item, built).replace('"', '""') + chr(34)
            lines.append(f"{text};{quoted}")
        put(root / "list.csv", "\n".join(lines) + "\n")
        built.shared = [root / "list.csv"]
        return built

    return build


LAYOUTS = (
    Layout("mvtec", "mvtec", mvtec, "mask", stated=True),
    Layout("mvtec-products", "mvtec", mvtec_products, "mask", stated=True),
    Layout("mvtec-loco", "mvtec", mvtec_loco, "mask", stated=True),
    Layout("mvtec-ad-2", "mvtec-ad-2", mvtec_ad2, "mask", stated=True, classes=False),
    Layout("classes", "classes", classes, "label", stated=True),
    Layout("classes-split", "classes", classes_split, "label", stated=True),
    Layout("good-defect", "good-defect", good_defect, "mask", stated=True, classes=False),
    Layout("good-defect-classes", "good-defect", good_defect_classes, "mask", stated=True),
    Layout("views", "views", views, "mask", stated=True),
    Layout("masks", "masks", masks, "mask", classes=False, absent_is_good=True),
    Layout("masks-by-class", "masks", masks_by_class, "mask", stated=True),
    Layout("magnetic-tile", "masks", magnetic_tile, "mask", stated=True),
    Layout("class-masks", "class-masks", class_masks, "numbers", closed=True),
    Layout("voc", "voc", voc, "box", sizes=True),
    Layout("voc-beside", "voc", voc_beside, "box", sizes=True),
    Layout("coco", "coco", coco_of("box"), "box", closed=True, sizes=True, paths=True),
    Layout("coco-outlines", "coco", coco_of("outline"), "outline", closed=True, sizes=True, paths=True),
    Layout("coco-runs", "coco", coco_of("runs"), "runs", closed=True, paths=True),
    Layout("yolo", "yolo", yolo, "box", closed=True, absent_is_good=True, blank_is_good=True),
    Layout("yolo-list", "yolo", yolo_list, "box", closed=True, absent_is_good=True, blank_is_good=True),
    Layout("yolo-outlines", "yolo", yolo_outlines, "outline", closed=True, absent_is_good=True, blank_is_good=True),
    Layout("labelme", "labelme", labelme_of("box"), "box", sizes=True),
    Layout("labelme-outlines", "labelme", labelme_of("outline", "images/", "annotations/"), "outline", sizes=True),
    Layout("labelme-runs", "labelme", labelme_of("runs"), "runs"),
    Layout("deeppcb", "deeppcb", deeppcb, "box", closed=True, absent_is_good=True, blank_is_good=True,
           labels={"dent": "open", "pit": "short"}),
    Layout("severstal", "severstal", severstal, "runs", absent_is_good=True, paths=True),
    Layout("neu-det", "neu-det", neu_det, "box", stated=True, free_names=False, sizes=True),
    Layout("kolektor", "kolektor", kolektor, "mask", classes=False),
    Layout("elpv", "elpv", elpv, "label", stated=True, classes=False),
    Layout("label-studio", "label-studio", label_studio_of("box"), "box", sizes=True, paths=True),
    Layout("label-studio-outlines", "label-studio", label_studio_of("outline"), "outline", sizes=True, paths=True),
    Layout("label-studio-brush", "label-studio", label_studio_of("runs"), "runs", paths=True),
    Layout("cvat", "cvat", cvat_of("box"), "box", closed=True, sizes=True, paths=True),
    Layout("cvat-outlines", "cvat", cvat_of("outline"), "outline", closed=True, sizes=True, paths=True),
    Layout("cvat-masks", "cvat", cvat_of("runs"), "runs", closed=True, paths=True),
    Layout("supervisely", "supervisely", supervisely_of("box"), "box", closed=True, sizes=True),
    Layout("supervisely-outlines", "supervisely", supervisely_of("outline"), "outline", closed=True, sizes=True),
    Layout("supervisely-bitmaps", "supervisely", supervisely_of("runs"), "runs", closed=True),
    Layout("fiftyone", "fiftyone", fiftyone_of("box"), "box", paths=True),
    Layout("fiftyone-masks", "fiftyone", fiftyone_of("runs"), "runs", paths=True),
    Layout("roboflow-masks", "roboflow-masks", roboflow, "numbers", closed=True),
    Layout("visa", "visa", visa, "mask", stated=True, classes=False, paths=True),
    Layout("kolektor-sdd2", "kolektor-sdd2", kolektor_sdd2, "mask", classes=False),
    Layout("dagm", "dagm", dagm, "mask", stated=True, classes=False),
    Layout("gc10-det", "gc10-det", gc10_det, "box", stated=True, closed=True, sizes=True, good=False,
           labels={"dent": "punching_hole", "pit": "welding_line"}),
    Layout("real-iad", "real-iad", real_iad, "mask", stated=True, paths=True,
           labels={"dent": "pit", "pit": "scratch"}),
    Layout("csv", "csv", csv_of("label"), "label", stated=True, paths=True),
    Layout("csv-masks", "csv", csv_of("mask"), "mask", classes=False, paths=True),
    Layout("csv-boxes", "csv", csv_of("box"), "box", paths=True),
    Layout("csv-outlines", "csv", csv_of("outline"), "outline", paths=True),
)  # fmt: skip
