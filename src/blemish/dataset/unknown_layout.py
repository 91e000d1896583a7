"""What a folder of no known layout holds, the layout that is nearest to it, and what is missing for that."""

from collections import Counter
from pathlib import Path

from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    MASK_NAMES,
    SPLIT_NAMES,
    find_folder,
    has_images,
    list_folders,
    walk_folders,
)
from blemish.dataset.labels import is_good_name
from blemish.imaging.read import IMAGE_SUFFIXES

_MAX_FOLDERS = 12  # that are listed


def describe_tree(place: Path) -> str:
    """Files of each suffix in a folder and in each folder below it, in one line."""
    parts = []
    for folder in walk_folders(place):
        suffixes = Counter(path.suffix.lower() or "no suffix" for path in folder.iterdir() if path.is_file())
        if suffixes or not list_folders(folder):
            counts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4)) or "empty"
            parts.append(f"{folder.relative_to(place).as_posix()}/ ({counts})")
    more = f", and {len(parts) - _MAX_FOLDERS} more folders" if len(parts) > _MAX_FOLDERS else ""
    return ", ".join(parts[:_MAX_FOLDERS]) + more


def nearest_layout(place: Path) -> tuple[str, str]:
    """Name of the layout that a folder is nearest to, and what is missing for it."""
    folders = list(walk_folders(place))
    suffixes = Counter(p.suffix.lower() for folder in folders for p in folder.iterdir() if p.is_file())
    names = {folder.name.lower() for folder in folders}
    if not any(suffix in IMAGE_SUFFIXES for suffix in suffixes):
        return "good-defect", f"images, of one of the types {' '.join(IMAGE_SUFFIXES)}"
    if suffixes[".xml"]:
        return "voc", "XML files in Annotations/ with the names of images in JPEGImages/, or beside the images"
    if suffixes[".txt"]:
        return (
            "yolo",
            "lines of class, centre and size from 0 to 1 in labels/*.txt beside images/, or a data.yaml of names",
        )
    if suffixes[".json"]:
        return (
            "coco",
            "a .json with images, annotations and categories; or, for labelme, one with shapes beside each image",
        )
    if names & {"ground_truth", "groundtruth"}:
        return "mvtec", "folders train/good and test/<class> beside ground_truth/<class>"
    if names & {name for name in MASK_NAMES if "mask" in name}:
        return "masks", f"a folder {' or '.join(IMAGE_FOLDER_NAMES)} beside the masks, with images of their names"
    classes = [f for parent in (place, *list_folders(place)) for f in list_folders(parent) if has_images(f)]
    own = [folder for folder in classes if folder.name.lower() not in SPLIT_NAMES]
    if own and any(is_good_name(folder.name) for folder in own):
        return "classes", f"a second class beside {own[0].name}/"
    if own:
        return "good-defect", f"a folder of good parts beside {own[0].name}/; if it is there, name it with --good NAME"
    if find_folder(place, SPLIT_NAMES):
        return "mvtec", "folders of classes below the splits, such as train/good and test/<class>"
    return "good-defect", "folders good/ and defect/, or a CSV of the columns image and label"
