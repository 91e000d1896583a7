"""One job of a benchmark: train a method on a set, evaluate its bundle on the test images, one row for each set.

A job holds plain values only, so that it can be sent to another process or machine that sees the same folders.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import blemish
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset
from blemish.evaluation.defect_types import TypeMetrics, metrics_by_type
from blemish.evaluation.evaluate import EvaluatedImage, evaluate
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.predictions import Prediction, make_prediction
from blemish.evaluation.speed import Speed
from blemish.files import write_atomic
from blemish.inspection.bundle import find_bundle
from blemish.inspection.inspector import Inspector
from blemish.methods.catalogue import method_class
from blemish.training.benchmark.rows import PROTOCOL, BenchmarkRow, describe_variant, flatten_metrics, list_words
from blemish.training.benchmark.sets import select_products
from blemish.training.comparison.runs import train_or_resume, training_seconds
from blemish.training.learn.options import check_options
from blemish.training.learn.presets import Preset, preset_options
from blemish.training.learn.run import read_config, split_file

_NO_NAME = re.compile(r"[^\w.-]+")  # characters that not every file system takes


@dataclass(frozen=True)
class BenchmarkJob:
    out: str  # folder of the benchmark
    set: str
    listed: str  # CSV of the images with their splits
    root: str  # of the relative paths in it
    products: tuple[str, ...]  # of a unified set, each evaluated on its own
    test_sha256: dict[str, str]  # of the list of test images of each set evaluated
    method: str
    preset: Preset
    options: dict[str, Any]  # beyond the preset
    seed: int
    settings: dict[str, Any]  # of `train`, where they are not the defaults
    trainer: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of its folder: the method with what is not default, and the seed."""
        words = [self.method, *([] if self.preset == "default" else [self.preset])]
        words += [f"{key}={value}" for key, value in {**self.options, **self.settings}.items()]
        return f"{file_name('-'.join(words))}-{self.seed}"

    @property
    def run(self) -> Path:
        return Path(self.out) / "runs" / file_name(self.set) / self.name

    def images_file(self, name: str) -> Path:
        """Where the prediction for each image of the set of that name is kept."""
        unified = ["unified"] if self.products else []
        return Path(self.out) / "images" / file_name(name) / f"{'-'.join([*unified, self.name])}.json"

    def keys(self) -> list[tuple[str, str, int]]:
        """Keys of the rows that it measures."""
        given = {**self.options, **self.settings}
        variant = describe_variant(self.method, list_words(self.preset, bool(self.products), given))
        return [(name, variant, self.seed) for name in self.test_sha256]


def file_name(text: str) -> str:
    """The text as part of a path."""
    return _NO_NAME.sub("_", text)


def run_job(job: BenchmarkJob) -> list[BenchmarkRow]:
    """Train, unless it is trained, and evaluate; keeps the prediction for each image. Raises what `train` raises."""
    kind = method_class(job.method)
    dataset = read_dataset(job.listed, "csv", job.root)
    good = sum(s.defective is False for s in dataset.split("train").samples)
    options = preset_options(job.method, job.preset, good) | job.options
    checked = check_options(kind.Options, options, job.method).model_dump(mode="json")
    begin = time.process_time()
    was_begun = (job.run / "run.yaml").exists()
    settings = {"root": job.root, "format": "csv", "seed": job.seed, **job.settings}
    if job.trainer is not None:
        settings["trainer"] = job.trainer
    train_or_resume(Path(job.listed), job.run, job.method, checked, False, **settings)
    cpu = None if was_begun else time.process_time() - begin
    inspector = Inspector.open(job.run)
    test = dataset.split("test")
    subsets = select_products(test, job.products) if job.products else {job.set: test}
    return [_measure(job, inspector, name, subset, cpu) for name, subset in subsets.items()]


def _measure(job: BenchmarkJob, inspector: Inspector, name: str, test: Dataset, cpu: float | None) -> BenchmarkRow:
    images: list[EvaluatedImage] = []
    evaluation = evaluate(inspector, test, on_evaluated=images.append)
    metrics, intervals = flatten_metrics(evaluation.to_dict())
    types = {label: _type_values(own) for label, own in metrics_by_type(images).items()}
    predictions = [make_prediction(own, shapes=evaluation.metrics.masks is not None) for own in images]
    _write_predictions(job.images_file(name), predictions, test.root)
    return BenchmarkRow(
        protocol=PROTOCOL,
        blemish=blemish.__version__,
        set=name,
        unified=bool(job.products),
        method=job.method,
        preset=job.preset,
        options={**job.options, **job.settings},
        seed=job.seed,
        calibration=read_config(job.run).calibration,
        images=_count_images(job.run, test),
        test_sha256=job.test_sha256[name],
        predictions=job.images_file(name).name,
        metrics=metrics,
        intervals=intervals,
        types=types,
        cost=_costs(job.run, evaluation.speed, cpu),
    )


def _type_values(own: TypeMetrics) -> dict[str, float]:
    """The metrics of a defect type that are known."""
    values: dict[str, RateEstimate | float | None] = {
        "images": own.images,
        "image AUROC": own.auroc,
        "image AP": own.ap,
        "escape at 1 %": own.escape_at_1_percent,
        "escape at 5 %": own.escape_at_5_percent,
        "pixel AP": own.pixel_ap,
        "AUPRO": own.aupro,
    }
    known = {name: value.value if isinstance(value, RateEstimate) else value for name, value in values.items()}
    return {name: value for name, value in known.items() if value is not None}


def _count_images(run: Path, test: Dataset) -> dict[str, int]:
    known = read_dataset(split_file(run), "csv").samples
    counts = {split: sum(s.split == split for s in known) for split in ("train", "tuning", "val")}
    counts["test good"] = sum(s.defective is False for s in test.samples)
    counts["test defective"] = sum(s.defective is True for s in test.samples)
    return counts


def _costs(run: Path, speed: Speed | None, cpu: float | None) -> dict[str, Any]:
    """Times of the training, from reading the data to the bundle, and of inspections; size; machine."""
    costs: dict[str, Any] = {
        "training_s": training_seconds(run),
        "training_cpu_s": cpu,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "size_mb": find_bundle(run).stat().st_size / 1e6,
    }
    if speed is not None:
        costs["latency_ms"] = speed.latency_ms["median"]
        costs["network_ms"] = speed.network_ms
    return {name: value for name, value in costs.items() if value is not None}


def _write_predictions(path: Path, predictions: Sequence[Prediction], root: Path) -> None:
    """One prediction an image, with paths relative to the data where they are below it."""
    base = root.absolute()
    rows = []
    for own in predictions:
        place = Path(own.image).absolute()
        image = place.relative_to(base).as_posix() if place.is_relative_to(base) else own.image
        rows.append(asdict(own) | {"image": image})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")


def read_predictions(path: Path) -> list[Prediction]:
    """The prediction for each image, as a job kept them."""
    return [Prediction.from_dict(own) for own in json.loads(path.read_text(encoding="utf-8"))]
