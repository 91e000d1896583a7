"""One run of a comparison: trained, resumed or found finished, then judged, with what came of it kept beside it."""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.dataset.sample import Dataset
from blemish.dataset.write import sha256_of, write_whole
from blemish.errors import BundleError, OptionError
from blemish.evaluation.evaluate import EvaluatedImage, evaluate
from blemish.evaluation.predictions import Prediction, make_prediction
from blemish.inspection.bundle import find_bundle
from blemish.inspection.inspector import Inspector
from blemish.training.learn.run import RunConfig, read_config, split_file
from blemish.training.train import resume, train

log = logging.getLogger(__name__)
TIMING = "timing.json"
LONG = {"roi": "region of interest", "synthetic": "recipe of synthetic defects"}  # settings too long to be shown


class OtherRunError(OptionError):
    """The folder holds a run of other options."""


@dataclass(frozen=True)
class Judged:
    """What a bundle made of a set of images: the figures of `evaluate`, and the judgement of every image."""

    figures: dict[str, Any]
    images: list[Prediction]


def finished(run: Path) -> bool:
    """Whether a run has shipped its bundle."""
    try:
        return find_bundle(run).is_file()
    except BundleError:
        return False


def learn(listed: Path, run: Path, method: str, options: dict[str, Any], progress: bool, **settings: Any) -> None:
    """Leave a run as it is where it is finished, resume it where it was interrupted, else train it.

    Raises OtherRunError where the folder holds a run of other options.
    """
    if (run / "run.yaml").exists() and not split_file(run).exists():  # interrupted before anything was learnt
        shutil.rmtree(run)
    if (run / "run.yaml").exists():
        _check_same(run, options, settings)
        if finished(run):
            log.info(f"{method}: already trained")
            return
        log.info(f"{method}: going on where it was interrupted")
        resume(run, progress=progress)
        return
    start = time.perf_counter()
    train(listed, out=run, method=method, options=options, progress=progress, **settings)
    (run / TIMING).write_text(json.dumps({"training_s": time.perf_counter() - start}), encoding="utf-8")


def training_seconds(run: Path) -> float | None:
    """From the data to the bundle; None where the run was interrupted in between."""
    path = run / TIMING
    return float(json.loads(path.read_text(encoding="utf-8"))["training_s"]) if path.is_file() else None


def judge(run: Path, part: Dataset, name: str, fold: int = 0, speed: bool = True) -> Judged:
    """Evaluate a run's bundle on the images of a part, once: what was found is kept in the run's folder."""
    inspector = Inspector.open(run)
    key = {
        "bundle": hashlib.sha256(inspector.bundle.path.read_bytes()).hexdigest(),
        "images": sha256_of(part),
        "speed": speed,
    }
    path = run / f"judged-{name}.json"
    kept = _read(path)
    if kept.get("key") == key:
        return Judged(kept["figures"], [Prediction.from_dict(own) for own in kept["judgements"]])
    seen: list[EvaluatedImage] = []
    result = evaluate(inspector, part, speed=speed, on_evaluated=seen.append)
    judgements = [make_prediction(own, fold, shapes=result.metrics.masks is not None) for own in seen]
    found = Judged(result.to_dict(), judgements)
    content = {"key": key, "figures": found.figures, "judgements": [own.to_dict() for own in judgements]}
    write_whole(path, json.dumps(content))
    return found


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
        own["trainer"].pop("accelerator", None)  # where it learns is not what it learns
    for name in ("seed", "fit", "channels", "tiling", "roi", "synthetic", "trainer"):
        # Channels that nobody asked for are those of the images.
        if known[name] != asked[name] and (name in settings or name != "channels"):
            what = f"{name} {known[name]}, not {asked[name]}" if name not in LONG else f"another {LONG[name]}"
            raise OtherRunError(f"'{run}' was trained with {what}; take another folder with --out")


def _read(path: Path) -> dict[str, Any]:
    """What was kept; nothing where there is none, or where it was damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
