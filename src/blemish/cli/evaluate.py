"""`blemish evaluate`: how good a bundle is, on images whose truth is known."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from blemish.cli.console import console, messages, tell, write_json
from blemish.errors import DataError

FIGURES = {
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
    bundle: Annotated[Path, typer.Argument(help="a .blemish file or the run folder that holds one")],
    data: Annotated[str, typer.Argument(help="dataset: a folder, a CSV manifest, or 'elpv'")],
    split: Annotated[
        str | None, typer.Option(help="which images", show_default="test; all where neither data nor run has splits")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder that a CSV manifest's paths are relative to")] = None,
    format_: Annotated[str, typer.Option("--format", help="of the dataset")] = "auto",
    json: Annotated[Path | None, typer.Option(help="write all figures to this file, or to stdout with -")] = None,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino")] = "onnxruntime",
    threads: Annotated[int | None, typer.Option(min=1, help="of the engine")] = None,
    speed: Annotated[bool, typer.Option(help="measure speed too")] = True,
) -> None:
    """Judge BUNDLE on DATA: ranking, escapes and overkill with intervals, pixels, classes, speed."""
    from blemish.evaluation.evaluate import evaluate as judge
    from blemish.inspection.inspector import Inspector

    dataset = read_part(data, split, root, format_, bundle)
    inspector = Inspector.open(bundle, engine=engine, threads=threads)
    with Progress(console=messages, transient=True) as progress:
        task = progress.add_task("measuring speed" if speed else "inspecting", total=len(dataset))

        def watch(sample: "Sample", found: "Inspection") -> None:
            progress.update(task, description="inspecting", advance=1)

        result = judge(inspector, dataset, speed=speed, watch=watch).to_dict()
    show_unreadable(result)
    if json is not None:
        write_json(result, json)
    if json is None or str(json) != "-":
        show(result)


def read_part(data: str, split: str | None, root: Path | None, format: str, bundle: Path) -> "Dataset":
    """The images of a split, by default the test images.

    Data without splits of their own have those of the run that the bundle came from, so that no image that was learnt
    from is judged; without such a run all images are used.
    """
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(data, format, root)
    if all(sample.split is None for sample in dataset.samples):
        dataset = _split_as_learnt(dataset, bundle)
        if split is None and all(sample.split is None for sample in dataset.samples):
            return dataset
    part = dataset.split(split or "test")
    if not len(part):
        found = sorted({sample.split for sample in dataset.samples if sample.split}) or ["none"]
        raise DataError(f"{data} has no images in the split '{split or 'test'}'; it has {', '.join(found)}")
    return part


def _split_as_learnt(dataset: "Dataset", bundle: Path) -> "Dataset":
    """The splits that the run made of these images; those that it did not know are test images."""
    from blemish.dataset.read import read_dataset

    listed = (bundle if bundle.is_dir() else bundle.parent) / "split.csv"
    if not listed.is_file():
        tell("neither the data nor the bundle's folder has splits: any image that was learnt from counts too")
        return dataset
    known = {sample.image.resolve(): sample.split for sample in read_dataset(listed, "csv").samples}
    splits = [known.get(sample.image.resolve()) for sample in dataset.samples]
    if not any(splits):
        return dataset
    tell(f"the data has no splits; those of {listed} are used")
    return dataset.with_samples(
        replace(sample, split=own or "test") for sample, own in zip(dataset.samples, splits, strict=True)
    )


def unknown_class(name: str, images: int) -> str:
    return (
        f"class '{name}' ({images} image{'' if images == 1 else 's'}) is not one that the bundle knows; all are missed"
    )


def show_unreadable(result: dict[str, Any]) -> None:
    """Which images and masks could not be read, and which classes cannot be found, on stderr."""
    for name, images in result["data"].get("unknown_classes", {}).items():
        messages.print(f"[yellow]![/yellow] {escape(unknown_class(name, images))}", highlight=False, soft_wrap=True)
    for line in result["data"].get("unreadable", []):
        messages.print(f"[yellow]![/yellow] {escape(line)}", highlight=False, soft_wrap=True)


def show(result: dict[str, Any]) -> None:
    """The figures as a table, one column more for each product."""
    products: dict[str, Any] = result.get("products", {})
    table = Table("", "figure", "value", "95 % interval", "n", *products, box=None, header_style="bold")
    before = ""
    for part, figures in FIGURES.items():
        for key, name in figures.items():
            value = result.get(part, {}).get(key)
            if value is None:
                continue
            interval, count = "", ""
            if isinstance(value, dict):
                interval, count = f"{value['low']:.4f} – {value['high']:.4f}", str(value["n"])
            own = [_figure(found.get(part, {}).get(key)) for found in products.values()]
            table.add_row("" if part == before else part, name, _figure(value), interval, count, *own)
            before = part
    console.print(table)
    if "speed" in result:
        console.print(_speed_line(result["speed"]), highlight=False)


def _figure(value: Any) -> str:
    number = value["value"] if isinstance(value, dict) else value
    return "" if number is None else f"{number:.4f}"


def _speed_line(speed: dict[str, Any]) -> str:
    memory = f" · peak memory {speed['peak_memory_mb']:.0f} MB" if "peak_memory_mb" in speed else ""
    return (
        f"{speed['images_per_second']:.1f} images/s · latency {speed['latency_ms']['median']:.1f} ms median, "
        f"{speed['latency_ms']['p95']:.1f} ms p95 · network {speed['network_ms']:.1f} ms{memory}"
    )
