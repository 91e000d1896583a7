"""One run of a comparison: trained, resumed or finished already, then evaluated; the results are kept in its folder."""

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.dataset.sample import Dataset
from blemish.dataset.write import dataset_sha256
from blemish.errors import BundleError, OptionError
from blemish.evaluation.evaluate import EvaluatedImage, evaluate
from blemish.evaluation.predictions import Prediction, make_prediction
from blemish.files import file_sha256, write_atomic
from blemish.inspection.bundle import find_bundle
from blemish.inspection.inspector import Inspector
from blemish.training.learn.run import RunConfig, read_config, split_file
from blemish.training.train import resume, train

log = logging.getLogger(__name__)
TIMING = "timing.json"
LONG = {"roi": "region of interest", "synthetic": "specification of synthetic defects"}  # too long for a message


class OtherRunError(OptionError):
    """The folder holds a run with other options."""


@dataclass(frozen=True)
class EvaluatedRun:
    """The metrics of a bundle on a set of images, as `evaluate` gives them, and the prediction for each image."""

    metrics: dict[str, Any]
    images: list[Prediction]


def is_finished(run: Path) -> bool:
    """Whether a run has shipped its bundle."""
    try:
        return find_bundle(run).is_file()
    except BundleError:
        return False


def train_or_resume(
    listed: Path, run: Path, method: str, options: dict[str, Any], progress: bool, **settings: Any
) -> None:
    """Train a run on a list of images; resume it if it was interrupted, leave it as it is if it is finished.

    Raises OtherRunError where the folder holds a run with other options.
    """
    if (run / "run.yaml").exists() and not split_file(run).exists():  # interrupted before training began
        shutil.rmtree(run)
    if (run / "run.yaml").exists():
        _check_same(run, options, settings)
        if is_finished(run):
            log.info(f"{method}: already trained")
            return
        log.info(f"{method}: resuming")
        resume(run, progress=progress)
        return
    start = time.perf_counter()
    train(listed, out=run, method=method, options=options, progress=progress, **settings)
    write_atomic(run / TIMING, json.dumps({"training_s": time.perf_counter() - start}))


def training_seconds(run: Path) -> float | None:
    """From reading the data to the bundle; None where the run was interrupted in between."""
    path = run / TIMING
    return float(json.loads(path.read_text(encoding="utf-8"))["training_s"]) if path.is_file() else None


def evaluate_run(run: Path, subset: Dataset, name: str, fold: int = 0, speed: bool = True) -> EvaluatedRun:
    """Evaluate a run's bundle on a subset of the images, once: the result is kept as `evaluated-NAME.json`."""
    inspector = Inspector.open(run)
    key = {
        "bundle": file_sha256(inspector.bundle.path),
        "images": dataset_sha256(subset),
        "speed": speed,
    }
    path = run / f"evaluated-{name}.json"
    kept = _read_json(path)
    if kept.get("key") == key:
        return EvaluatedRun(kept["metrics"], [Prediction.from_dict(own) for own in kept["predictions"]])
    images: list[EvaluatedImage] = []
    result = evaluate(inspector, subset, speed=speed, on_evaluated=images.append)
    predictions = [make_prediction(own, fold, shapes=result.metrics.masks is not None) for own in images]
    evaluated = EvaluatedRun(result.to_dict(), predictions)
    content = {"key": key, "metrics": evaluated.metrics, "predictions": [own.to_dict() for own in predictions]}
    write_atomic(path, json.dumps(content))
    return evaluated


def _check_same(run: Path, options: dict[str, Any], settings: dict[str, Any]) -> None:
    config = read_config(run)
    for name, value in options.items():
        if config.options.get(name) != value:
            raise OtherRunError(
                f"'{run}' was trained with {name}={config.options.get(name)}, not {value}; "
                "take another folder with --out, or remove this one"
            )
    wanted = RunConfig.model_validate({"blemish": "", "data": "", "method": config.method, **settings})
    known, asked = (c.model_dump(mode="json") for c in (config, wanted))
    for own in (known, asked):
        own["trainer"].pop("accelerator", None)  # the device makes no difference to the result
    for name in ("seed", "fit", "channels", "tiling", "roi", "synthetic", "trainer"):
        # Without the setting, channels are those of the images.
        if known[name] != asked[name] and (name in settings or name != "channels"):
            what = f"{name} {known[name]}, not {asked[name]}" if name not in LONG else f"another {LONG[name]}"
            raise OtherRunError(f"'{run}' was trained with {what}; take another folder with --out")


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
