"""Arguments and options that several commands have, and how their values are read."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from blemish.cli.console import messages
from blemish.errors import OptionError
from blemish.translation import languages

if TYPE_CHECKING:
    from blemish.imaging.roi import Roi
    from blemish.training.comparison.on_ray import RayTasks

MAX_SEED = 2**32 - 1  # that NumPy takes

# Names of choices, so that help lists them without loading what they choose from; tests compare both.
FormatName = Literal[
    "auto", "mvtec", "classes", "good-defect", "views", "masks", "class-masks", "voc", "coco", "yolo", "labelme",
    "deeppcb", "severstal", "neu-det", "kolektor", "elpv", "label-studio", "cvat", "supervisely", "fiftyone",
    "roboflow-masks", "visa", "mvtec-ad-2", "kolektor-sdd2", "dagm", "gc10-det", "real-iad", "csv",
]  # fmt: skip
WritableFormat = Literal[
    "mvtec", "classes", "good-defect", "masks", "class-masks", "voc", "coco", "yolo", "labelme", "deeppcb", "severstal",
    "neu-det", "label-studio", "cvat", "supervisely", "csv",
]  # fmt: skip
DownloadName = Literal["mvtec-ad", "mvtec-loco", "mvtec-ad-2", "visa", "btad", "kolektor-sdd2", "dagm"]
EngineName = Literal["onnxruntime", "openvino", "tensorrt"]
DeviceName = Literal["auto", "cpu", "cuda"]


def choice_option(kind: Any, help: str, *flags: str, **settings: Any) -> Any:
    """An option whose value is one of a `Literal`; its help lists the values, whole words in a narrow window too."""
    return typer.Option(*flags, metavar="NAME", help=f"{help}: {', '.join(get_args(kind))}", **settings)


DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="dataset: a folder, a CSV or COCO file, or elpv", show_default=False)
]
BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="bundle: a .blemish file, or the run folder that contains it", show_default=False
    ),
]
FormatOption = Annotated[FormatName, choice_option(FormatName, "layout of the dataset", "--format")]
RootOption = Annotated[
    Path | None,
    typer.Option(help="folder for the relative paths of a CSV or COCO file", show_default="folder of the file"),
]
GoodOption = Annotated[
    list[str] | None,
    typer.Option("--good", metavar="NAME", help="further name of good classes and folders; repeatable"),
]
UnlabelledName = Literal["good", "unknown"]
UnlabelledOption = Annotated[
    UnlabelledName,
    choice_option(UnlabelledName, "what images without annotation are, unless the layout says so", "--unlabelled"),
]
LanguageOption = Annotated[str, typer.Option(metavar="|".join(languages()), help="language of the page")]
SeedOption = Annotated[int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="random seed for splits and training")]
FileSeedOption = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="random seed; the same seed writes the same files")
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="name of the split to use", show_default="test; all images where data and run have no splits"),
]
EngineOption = Annotated[EngineName, choice_option(EngineName, "inference engine")]
EngineDeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAME", help="device of the engine: cpu, cuda, gpu, npu, dml, coreml; cuda:1 is the second",
        show_default="cpu",
    ),
]  # fmt: skip
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="number of threads of the inference engine", show_default="all cores")
]
SpeedOption = Annotated[bool, typer.Option(help="measurement of the speed")]
ScaleOption = Annotated[
    str | None, typer.Option(metavar="P|X,Y", help="scale in pixels per mm: one number, or one for x and one for y")
]
DeviceOption = Annotated[DeviceName, choice_option(DeviceName, "device for training")]
JsonOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="JSON file to write; -: stdout")]
RAY_PANEL = "On a Ray cluster (extra ray)"
TrainingCoresOption = Annotated[
    int | None, typer.Option(min=1, help="cores of each training", show_default="1", rich_help_panel=RAY_PANEL)
]
TrainingGpusOption = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs, or share of one, of each training", show_default="0", rich_help_panel=RAY_PANEL),
]
ROI_HELP = "YAML or JSON file with the region of interest: rectangle, polygons, or a locator of the part"


def parse_scale(text: str | None) -> tuple[float, float] | None:
    """Pixels per millimetre along x and y from "P" or "X,Y"; raises OptionError unless both are positive."""
    if text is None:
        return None
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise OptionError(f"--px-per-mm {text}: give one positive number, or two as X,Y")
    x, y = values[0], values[-1]
    if x != y and "." not in text:  # a decimal comma as likely as two numbers
        one, two = text.replace(",", "."), f"{x:.1f},{y:.1f}"
        raise OptionError(f"--px-per-mm {text} may be one number or two: write {one}, or {two} for x and y")
    if len(values) == 2:
        messages.print(f"scale: {x:g} px/mm along x, {y:g} px/mm along y")
    return x, y


def scale_text(x: float, y: float) -> str:
    """Pixels per millimetre along x and y as `parse_scale` reads them."""
    text = f"{x:.6g},{y:.6g}"
    return text if "." in text else f"{x:.1f},{y:.1f}"


def split_names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def tiling_option(tile: int | None, overlap: float | None) -> dict[str, Any] | None:
    """Fields of a tiling from --tile and --overlap; OptionError for an overlap of no tiles."""
    given = {} if overlap is None else {"overlap": overlap}
    if tile is None and given:
        raise OptionError("--overlap is that of tiles; give --tile with it")
    return None if tile is None else {"height": tile, "width": tile, **given}


def roi_option(path: Path | None) -> "Roi | None":
    """The region of interest of a file."""
    if path is None:
        return None
    from blemish.inspection.roi_file import read_roi

    return read_roi(path)


def spec_option(path: Path | None) -> dict[str, Any] | None:
    """The defect specification of a file, as plain data."""
    if path is None:
        return None
    from blemish.synthesis.defect_spec import read_defect_spec

    return read_defect_spec(path).model_dump(mode="json")


def ray_tasks(address: str | None, cores: int | None, gpus: float | None) -> "RayTasks | None":
    """Where trainings run as tasks; None without --ray, for which the others are."""
    if address is None:
        if cores is not None or gpus is not None:
            raise OptionError("--cores and --gpus are for --ray")
        return None
    from blemish.training.comparison.on_ray import RayTasks

    return RayTasks(address, cores or 1, gpus or 0.0)


def choose_workers(device: DeviceName) -> int:
    """Processes that read images: none on a CPU, whose cores train; on a GPU machine all cores but one, 8 at most."""
    import torch

    return min(8, (os.cpu_count() or 2) - 1) if device != "cpu" and torch.cuda.is_available() else 0


def trainer_options(
    device: DeviceName, devices: int = 1, num_nodes: int = 1, strategy: str = "auto", precision: str = "32"
) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for the machine; raises OptionError for a GPU that is not there."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise OptionError("--device cuda: this machine has no usable GPU; leave --device out or say cpu")
    return {
        "accelerator": {"cuda": "gpu"}.get(device, device),
        "devices": devices,
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
    }
