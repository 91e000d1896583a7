"""The run folder: the settings of a training, its images and its results.

run.yaml             everything needed to repeat or resume the run
split.csv            the images with their splits
folds.csv            with cross-fitting, the fold in which each image is scored, and those in which it is tuned on
progress.jsonl       progress of the training, for other programs
log/metrics.csv      what was logged during training
checkpoints/         for resuming; deleted when the run is finished
weights.safetensors  the trained weights
NAME.blemish         the bundle that ships
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypedDict
from zipfile import is_zipfile

import yaml
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from blemish.errors import OptionError
from blemish.files import load_yaml, validate, write_atomic
from blemish.imaging.pixel_range import PixelSpec
from blemish.imaging.roi import Roi
from blemish.inspection.manifest import Scale, Tiling
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.learn.windows import WindowLabelRule

SPLIT_SHA256 = "split_sha256"  # key of run.yaml
NOTES = "notes"  # in the metadata of the weights: JSON of the lines that the bundle warns of
DEFAULT_FOLDS = 5
DEFAULT_CACHE_MB = 1024


class RunConfig(BaseModel):
    """All settings of a training, as `run.yaml` holds them."""

    model_config = ConfigDict(extra="forbid")

    blemish: str
    data: str
    format: str = "auto"
    root: str | None = None
    good: list[str] = []  # further names of good classes and folders
    unlabelled: Literal["good", "unknown"] = "unknown"  # what images without an annotation are
    method: str
    options: dict[str, Any] = {}
    seed: int = Field(default=0, ge=0, lt=2**32)
    channels: int = Field(default=3, ge=1)
    fit: Literal["stretch", "letterbox"] = "stretch"
    files_sha256: str | None = None  # of the images and masks, when the run begins
    pixels: PixelSpec | None = None  # of the training and validation images, measured when the run begins
    roi: Roi | None = None
    tiling: Tiling | None = None
    windows: WindowLabelRule = WindowLabelRule()  # labels of the tiles from which a classifier learns
    start: str | None = None  # run folder whose network this one starts from
    # Share of the steps in which pretrained layers stay fixed; None: a tenth if started from another run, else 0.
    probe: float | None = Field(default=None, ge=0, lt=1)
    synthetic: DefectSpec | None = None  # synthetic defects on good images during training
    scale: Scale | None = None
    calibration: Literal["held-out", "cross-fitted"] = "held-out"
    folds: int = Field(default=DEFAULT_FOLDS, ge=2)
    false_alarm: float = Field(default=0.01, gt=0, lt=1)
    review: float = Field(default=0.05, gt=0, lt=1)
    escape: float | None = Field(default=None, ge=0, lt=1)
    cost_escape: float | None = Field(default=None, gt=0)
    class_thresholds: bool = False
    refine: Literal["auto", "off"] = "auto"  # auto: ship a refinement of regions where it proves to be better
    trainer: dict[str, Any] = {}  # Lightning's accelerator, devices, num_nodes, strategy, precision
    workers: int = Field(default=0, ge=0)
    cache_mb: int = Field(default=DEFAULT_CACHE_MB, ge=0)  # for prepared images, and as much for fixed features
    compile: bool = False  # torch.compile of the layers that train


class RunSettings(TypedDict, total=False):
    """Keyword arguments of `train` beyond data, method and options: the other fields of `RunConfig`.

    None leaves a setting at its default. Models can be given as dicts.
    """

    format: str | None
    root: str | None
    good: list[str] | None
    unlabelled: Literal["good", "unknown"] | None
    seed: int | None
    channels: int | None
    fit: Literal["stretch", "letterbox"] | None
    roi: Roi | dict[str, Any] | None
    tiling: Tiling | dict[str, Any] | None
    windows: WindowLabelRule | dict[str, Any] | None
    start: str | None
    probe: float | None
    synthetic: DefectSpec | dict[str, Any] | None
    scale: Scale | dict[str, Any] | None
    calibration: Literal["auto", "held-out", "cross-fitted"] | None
    folds: int | None
    false_alarm: float | None
    review: float | None
    escape: float | None
    cost_escape: float | None
    class_thresholds: bool | None
    refine: Literal["auto", "off"] | None
    trainer: dict[str, Any] | None
    workers: int | None
    cache_mb: int | None
    compile: bool | None


def split_file(run: Path) -> Path:
    return run / "split.csv"


def folds_file(run: Path) -> Path:
    return run / "folds.csv"


def weights_file(run: Path) -> Path:
    return run / "weights.safetensors"


def checkpoint_file(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def write_config(run: Path, config: RunConfig) -> None:
    """Write run.yaml, after split.csv: its hash is the last line, so that a cut in either file is noticed."""
    content = {**config.model_dump(mode="json", exclude_none=True), SPLIT_SHA256: _hash_split(run)}
    write_atomic(run / "run.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_config(run: Path) -> RunConfig:
    """The settings of a run; OptionError where the folder is no run or its run.yaml is damaged."""
    return validate(RunConfig, _read_content(run)[0], f"'{run / 'run.yaml'}'")


def check_unchanged(run: Path) -> None:
    """OptionError where a file that a run resumes from is cut off, or its list of images is another than at first."""
    if _hash_split(run) != _read_content(run)[1]:
        raise OptionError(f"'{split_file(run)}' is cut off, or was changed since the run began; start a new run")
    for path in sorted(run.rglob("*.ckpt")):
        if not is_zipfile(path):
            raise OptionError(f"'{path}' is cut off; delete it, and the run starts again without it")


def _read_content(run: Path) -> tuple[Any, str]:
    """The contents of run.yaml: the settings, and the hash of split.csv."""
    path = run / "run.yaml"
    if not path.is_file():
        raise OptionError(f"'{run}' is not a run folder: it has no run.yaml")
    content = load_yaml(path, f"'{path}'")
    sha256 = content.pop(SPLIT_SHA256, None) if isinstance(content, dict) else None
    if not isinstance(sha256, str) or len(sha256) != len(_hash_split(run)):
        raise OptionError(f"'{path}' is cut off: its last line, {SPLIT_SHA256}, is missing; start a new run")
    return content, sha256


def _hash_split(run: Path) -> str:
    listed = split_file(run)
    return hashlib.sha256(listed.read_bytes() if listed.is_file() else b"").hexdigest()


def restore(method: nn.Module, run: Path) -> None:
    """Give a method the trained weights of its run; OptionError where they are damaged, or of another version."""
    try:
        method.load_state_dict(load_weights(run))
    except RuntimeError as error:  # names or shapes that differ
        raise OptionError(
            f"the weights of '{run}' were made by another version of blemish and do not fit this one's "
            f"{type(method).__name__}; a bundle that it shipped works as it did; start a new run to train or ship again"
        ) from error


def read_notes(run: Path) -> list[str]:
    """The lines that the run's bundle warns of; runs of older versions have none."""
    with safe_open(weights_file(run), "pt") as file:
        return list(json.loads((file.metadata() or {}).get(NOTES, "[]")))


def load_weights(run: Path) -> dict[str, Tensor]:
    """The trained weights of a run; OptionError where their file is damaged."""
    path = weights_file(run)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise OptionError(f"'{path}' is cut off or damaged ({error}); delete it, and --resume trains again") from error
