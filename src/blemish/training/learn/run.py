"""The run folder: what was asked for, on which images, and what came of it.

run.yaml             everything needed to repeat or resume the run
split.csv            the images with their splits
log/metrics.csv      what was logged while learning
checkpoints/         for resuming; gone when the run is finished
weights.safetensors  what was learned
NAME.blemish         the bundle that ships
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blemish.errors import OptionError
from blemish.inspection.manifest import Roi, Scale, Tiling
from blemish.synthesis.defect_spec import DefectSpec
from blemish.training.learn.windows import WindowRule


class RunConfig(BaseModel):
    """All that `blemish train` was asked for."""

    model_config = ConfigDict(extra="forbid")

    blemish: str
    data: str
    format: str = "auto"
    root: str | None = None
    method: str
    options: dict[str, Any] = {}
    seed: int = Field(0, ge=0, lt=2**32)
    channels: int = Field(3, ge=1)
    fit: Literal["stretch", "letterbox"] = "stretch"
    roi: Roi | None = None
    tiling: Tiling | None = None
    windows: WindowRule = WindowRule()  # when a window of a tiled image bears a defect's class, for classifiers
    start: str | None = None  # run folder whose network this one starts from
    # Share of the steps in which the network started from stays as it is; none: a tenth after another run, else 0.
    probe: float | None = Field(None, ge=0, lt=1)
    synthetic: DefectSpec | None = None  # defects drawn on good images while learning
    scale: Scale | None = None
    calibration: Literal["held-out", "cross-fitted"] = "held-out"
    folds: int = Field(5, ge=2)
    false_alarm: float = Field(0.01, gt=0, lt=1)
    review: float = Field(0.05, gt=0, lt=1)
    escape: float | None = Field(None, ge=0, lt=1)
    cost_escape: float | None = Field(None, gt=0)
    class_thresholds: bool = False
    trainer: dict[str, Any] = {}  # Lightning's accelerator, devices, num_nodes, strategy, precision
    workers: int = Field(0, ge=0)


def split_file(run: Path) -> Path:
    return run / "split.csv"


def weights_file(run: Path) -> Path:
    return run / "weights.safetensors"


def checkpoint_file(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def write_config(run: Path, config: RunConfig) -> None:
    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    (run / "run.yaml").write_text(text, encoding="utf-8")


def read_config(run: Path) -> RunConfig:
    """Raises OptionError where the folder is no run or its run.yaml was damaged."""
    path = run / "run.yaml"
    if not path.is_file():
        raise OptionError(f"'{run}' is not a run folder: it has no run.yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = RunConfig.model_validate(content)
        if config.options.get("overlapping") is False:  # of older runs; there is just this kind now
            del config.options["overlapping"]
        return config
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise OptionError(f"'{path}' cannot be understood: {str(error).splitlines()[0]}; start a new run") from error
