"""`blemish evaluate`: how good a bundle is, on images with ground truth."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from blemish.cli.console import console, progress_bar, show_table, warn, write_json
from blemish.cli.options import (
    BundleArgument,
    DataArgument,
    EngineOption,
    FormatOption,
    JsonOption,
    RootOption,
    SpeedOption,
    SplitOption,
    ThreadsOption,
)
from blemish.errors import DataError

log = logging.getLogger(__name__)
# Names of the metrics in the table, by section of the result.
METRICS = {
    "image": {
        "auroc": "AUROC",
        "ap": "average precision",
        "f1": "F1",
        "escape_rate": "escape rate",
        "overkill_rate": "overkill rate",
        "review_rate": "review rate",
    },
    "pixel": {"auroc": "AUROC", "ap": "average precision", "aupro": "AUPRO (FPR 0.3)", "iou": "IoU"},
    "masks": {
        "iou": "IoU of regions",
        "dice": "Dice of regions",
        "miou": "mean IoU of classes",
        "instance_ap50": "AP50 of instances",
        "defects_found": "defects found",
    },
    "boxes": {
        "map": "mAP",
        "map50": "mAP50",
        "map75": "mAP75",
        "recall_at_1_fp_per_image": "recall at 1 false box an image",
    },
    "classes": {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "ece": "calibration error",
    },
    "labels": {
        "exact": "all classes right",
        "micro_f1": "micro F1",
        "macro_f1": "macro F1",
        "macro_ap": "mean average precision",
        "ece": "calibration error",
    },
}

if TYPE_CHECKING:
    from blemish.dataset.sample import Dataset, Sample
    from blemish.inspection.result import Inspection


def evaluate(
    bundle: BundleArgument,
    data: DataArgument,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    json: JsonOption = None,
    engine: EngineOption = "onnxruntime",
    threads: ThreadsOption = None,
    speed: SpeedOption = True,
) -> None:
    """Evaluate BUNDLE on DATA: ranking, escapes and overkill with intervals, pixels, classes, speed."""
    from blemish.evaluation.evaluate import evaluate as run
    from blemish.inspection.inspector import Inspector

    dataset = read_subset(data, split, root, format_, bundle)
    inspector = Inspector.open(bundle, engine=engine, threads=threads)
    with progress_bar() as progress:
        task = progress.add_task("measuring speed" if speed else "inspecting", total=len(dataset))

        def advance(sample: "Sample", inspection: "Inspection") -> None:
            progress.update(task, description="inspecting", advance=1)

        result = run(inspector, dataset, speed=speed, on_inspection=advance).to_dict()
    show_unreadable(result)
    if json is not None:
        write_json(result, json)
    if json is None or str(json) != "-":
        show(result)


def read_subset(data: str, split: str | None, root: Path | None, format: str, bundle: Path) -> "Dataset":
    """The images of a split, by default the test images.

    Data without splits get those of the run that the bundle came from, so that no training image is evaluated; without
    such a run all images are used.
    """
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(data, format, root)
    if all(sample.split is None for sample in dataset.samples):
        dataset = _split_as_in_run(dataset, bundle)
        if split is None and all(sample.split is None for sample in dataset.samples):
            return dataset
    subset = dataset.split(split or "test")
    if not len(subset):
        names = sorted({sample.split for sample in dataset.samples if sample.split}) or ["none"]
        raise DataError(f"{data} has no images in the split '{split or 'test'}'; it has {', '.join(names)}")
    return subset


def _split_as_in_run(dataset: "Dataset", bundle: Path) -> "Dataset":
    """The splits that the run made of these images; images that it did not have are test images."""
    from blemish.dataset.read import read_dataset

    listed = (bundle if bundle.is_dir() else bundle.parent) / "split.csv"
    if not listed.is_file():
        log.info("neither the data nor the bundle's folder has splits: training images are evaluated too")
        return dataset
    known = {sample.image.resolve(): sample.split for sample in read_dataset(listed, "csv").samples}
    splits = [known.get(sample.image.resolve()) for sample in dataset.samples]
    if not any(splits):
        return dataset
    log.info(f"the data has no splits; those of {listed} are used")
    return dataset.with_samples(
        replace(sample, split=own or "test") for sample, own in zip(dataset.samples, splits, strict=True)
    )


def unknown_class(name: str, images: int) -> str:
    return f"class '{name}' ({images} image{'' if images == 1 else 's'}) is unknown to the bundle; all are missed"


def show_unreadable(result: dict[str, Any]) -> None:
    """Images and masks that could not be read, and classes unknown to the bundle, on stderr."""
    for name, images in result["data"].get("unknown_classes", {}).items():
        warn(unknown_class(name, images))
    for line in result["data"].get("unreadable", []):
        warn(line)


def show(result: dict[str, Any]) -> None:
    """The metrics as a table, with one more column for each product."""
    products: dict[str, Any] = result.get("products", {})
    rows = []
    for section, names in METRICS.items():
        title = section
        for key, name in names.items():
            value = result.get(section, {}).get(key)
            if value is None:
                continue
            interval, count = "", ""
            if isinstance(value, dict):
                interval, count = f"{value['low']:.4f} – {value['high']:.4f}", str(value["n"])
            own = [_format_value(found.get(section, {}).get(key)) for found in products.values()]
            rows.append((title, name, _format_value(value), interval, count, *own))
            title = ""
    names_of_products = [escape(name) for name in products]
    show_table(("", "metric", "value", "95 % interval", "n", *names_of_products), rows)
    if "speed" in result:
        console.print(_speed_line(result["speed"]))


def _format_value(value: Any) -> str:
    number = value["value"] if isinstance(value, dict) else value
    return "" if number is None else f"{number:.4f}"


def _speed_line(speed: dict[str, Any]) -> str:
    memory = f" · peak memory {speed['peak_memory_mb']:.0f} MB" if "peak_memory_mb" in speed else ""
    return (
        f"{speed['images_per_second']:.1f} images/s · latency {speed['latency_ms']['median']:.1f} ms median, "
        f"{speed['latency_ms']['p95']:.1f} ms p95 · network {speed['network_ms']:.1f} ms{memory}"
    )
