"""Small sets for tests of readers: pictures and masks, a sound set that is read in silence, and its faulty twins."""

import json
import warnings
from pathlib import Path

import numpy as np

from blemish.dataset.ground_truth import read_class_masks, read_defect_mask
from blemish.dataset.read import FORMATS, read_dataset
from blemish.errors import DataError
from blemish.imaging.read import write_image

SIZE = (24, 32)


def picture(path: Path, seed=0, size=SIZE):
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def spot(top=4, left=6, height=8, width=10, size=SIZE):
    """A mask of one rectangle."""
    pixels = np.zeros(size, np.bool_)
    pixels[top : top + height, left : left + width] = True
    return pixels


def ragged(seed=0, size=SIZE):
    """A mask of a defect with holes and islands."""
    pixels = np.zeros(size, np.bool_)
    pixels[3:20, 5:27] = np.random.default_rng(seed).random((17, 22)) < 0.6
    return pixels


def save_mask(path: Path, pixels, value=255):
    write_image(path, (pixels * value).astype(np.uint8))
    return path


def save_json(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def save_text(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def change_json(path: Path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    save_json(path, content)


def replace_text(path: Path, old, new):
    content = path.read_text(encoding="utf-8")
    assert old in content, (old, content)
    save_text(path, content.replace(old, new, 1))


def cut(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def labels_of(dataset):
    """Label of each image, by its path below the set without the suffix; its labels where it has several."""
    names = [sample.image.relative_to(dataset.root).with_suffix("").as_posix() for sample in dataset.samples]
    return {name: s.label or s.labels for name, s in zip(names, dataset.samples, strict=True)}


def read_in_silence(root, name):
    """The set, recognised as nothing but this format, without a warning."""
    assert [known for known, layout in FORMATS.items() if layout.looks_like(root)] == [name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read_dataset(root)
    assert dataset.broken == ()
    return dataset


def read_faulty(root, name, sound, concerned, named):
    """Read a set with a fault: refused by a line that holds `named`, or said by it; nothing concerned is then good.

    `sound` are the labels of the sound twin, which all other images keep.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset, refusal = None, ""
        try:
            dataset = read_dataset(root, name)
        except DataError as error:
            refusal = str(error)
    if dataset is None:
        assert named in refusal, refusal
        assert "\n" not in refusal
        return None
    said = " ".join([*dataset.broken, *(str(warning.message) for warning in caught)])
    assert named in said, said or "nothing was said"
    labels = labels_of(dataset)
    for image, label in sound.items():
        if image in concerned:
            assert labels.get(image) != "good", f"{image} became good"
            assert labels.get(image) in (None, label), f"{image} is {labels[image]}"
        else:
            assert labels.get(image, "left out") == label, image
    assert labels.keys() <= sound.keys()
    return dataset


def mask_of(dataset, name, size=SIZE):
    sample = next(s for s in dataset.samples if s.image.stem == name)
    return read_defect_mask(sample, size)


def class_mask_of(dataset, name, label, size=SIZE):
    sample = next(s for s in dataset.samples if s.image.stem == name)
    classes = dataset.defect_classes
    return read_class_masks(sample, classes, size)[classes.index(label)]
