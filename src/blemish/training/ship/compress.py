"""A bundle with 8-bit convolutions: quantised, its thresholds calibrated anew, and compared with its source.

It is written only where the comparison holds: on images that neither training nor quantisation has seen, the AUROC
falls by no more than a stated loss and no more than a stated share of the verdicts changes.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from blemish.arrays import FloatArray
from blemish.dataset.contents import content_hashes
from blemish.dataset.duplicates import join_duplicates
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import ExportError, OptionError
from blemish.evaluation.evaluate import evaluate
from blemish.evaluation.evaluation import MetricSet
from blemish.files import file_sha256
from blemish.inspection.agreement import installed_versions
from blemish.inspection.bundle import Bundle, write_bundle
from blemish.inspection.engine_certificate import measure_latency
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Compression, Decision, Manifest, ProductDecision
from blemish.inspection.result import Inspection, Verdict
from blemish.inspection.seen_images import find_seen, unpack_seen
from blemish.training.learn.run import read_config, split_file
from blemish.training.ship.calibrate import PRODUCT_RATE, CalibrationTarget, min_parts
from blemish.training.ship.export import calibrate_products, graph_info, sample_evenly
from blemish.training.ship.quantise import quantise_graph

CALIBRATION_IMAGES = 32  # whose ranges the quantisation takes
MAX_AUROC_LOSS = 0.005
MAX_VERDICT_CHANGES = 0.005  # share of the images
MIN_SPEED_UP = 1.1  # below it, compressing does not pay
LIBRARIES = ("nncf", "onnx", "onnxruntime", "openvino", "numpy")
_THRESHOLDS = ("review", "reject", "map_low", "map_high", "edge", "class_thresholds")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompressionImages:
    """Images that the ranges of the quantisation come from, and others to calibrate thresholds and compare on."""

    ranges: list[Sample]
    compared: Dataset


def compress(
    bundle: str | Path,
    out: str | Path,
    *,
    data: Dataset | None = None,
    engine: str = "openvino",
    threads: int | None = None,
    max_auroc_loss: float = MAX_AUROC_LOSS,
    max_verdict_changes: float = MAX_VERDICT_CHANGES,
) -> Compression:
    """Write the bundle with 8-bit convolutions to `out`; what it loses and gains.

    Without `data`, the images are those of the run that the bundle lies in. Raises ExportError beyond the stated loss,
    and then writes nothing; OptionError without images to compare on, or of a product with thresholds of its own;
    MissingExtraError without NNCF.
    """
    source = Inspector.open(bundle, engine=engine, threads=threads)
    path, manifest = source.bundle.path, source.manifest
    if manifest.compression is not None:
        raise OptionError(f"bundle {path} is compressed already; take the float32 bundle that it was made from")
    images = find_images(source.bundle, data)
    log.info(f"quantising by the ranges of {len(images.ranges)} images")
    batches = [source.prepare(sample)[:1] for sample in images.ranges]
    only_good = not any(sample.defective for sample in images.ranges)
    if only_good:
        batches += add_strangers(batches)
    # A detector's features are strong at a few defects, and means over images of a maximum cut them off; its thresholds
    # are compared with all of its boxes, of which the layer before the last decides.
    boxes = "boxes" in manifest.outputs
    graph = quantise_graph(source.bundle.graph, batches, extremes=only_good or boxes, last=2 if boxes else 1)
    with TemporaryDirectory() as folder:  # an unproven bundle is never where bundles are looked for
        trial = Path(folder) / path.name
        inspector = Inspector.open(
            write_bundle(trial, graph, manifest, source.bundle.extras), engine=engine, threads=threads
        )
        log.info(f"calibrating thresholds on {len(images.compared)} images")
        fields = _new_thresholds(inspector, images.compared, path.parent)
        fields |= {
            "certificate": None,  # of the float32 graph
            "measurement_uncertainty": None,
            "graph": graph_info(onnx.load_from_string(graph), graph),
        }
        decided = Inspector(inspector.bundle, inspector.engine, manifest.model_copy(update=fields))
        log.info("comparing with the float32 graph")
        (before, metrics), (after, new_metrics) = (_judge(own, images.compared) for own in (source, decided))
    changed = sum(before[name] != after.get(name) for name in before)
    batch = source.prepare(images.compared.samples[0])[:1]
    int8_ms, float_ms = measure_latency(decided.engine, source.engine, batch)
    compression = Compression(
        engine=engine,
        source_sha256=file_sha256(path),
        calibration_images=len(images.ranges),
        images=len(before),
        defective=sum(bool(sample.defective) for sample in images.compared.samples),
        auroc=_pair(_auroc(metrics), _auroc(new_metrics)),
        pixel_ap=_pair(_pixel_ap(metrics), _pixel_ap(new_metrics)),
        box_map50=_pair(_box_map50(metrics), _box_map50(new_metrics)),
        changed_verdicts=changed,
        max_auroc_loss=max_auroc_loss,
        max_verdict_changes=max_verdict_changes,
        latency_ms=(float_ms, int8_ms),
        graph_bytes=(len(source.bundle.graph), len(graph)),
        versions=installed_versions(LIBRARIES),
    )
    if (problem := find_loss(compression)) is not None:
        raise ExportError(f"{problem}; nothing was written")
    write_bundle(out, graph, manifest.model_copy(update={**fields, "compression": compression}), source.bundle.extras)
    return compression


def find_images(bundle: Bundle, data: Dataset | None) -> CompressionImages:
    """The images of a bundle's run, or given ones, in two parts: ranges from training images, the others to compare on.

    Of given images only those for validation are taken where the data bring splits, and none that the bundle was
    trained or tuned on. Without a run they are parted, duplicates and images of one part together. Raises OptionError
    where one of the parts is empty.
    """
    listed = split_file(bundle.path.parent)
    own = read_dataset(listed, "csv") if listed.is_file() else None
    if own is None and data is None:
        raise OptionError("the bundle does not lie in the folder of its run; give images with --data")
    given = None if data is None else _select_unused(bundle, data, () if own is None else own.split("test").samples)
    if own is not None:
        ranges = own.split("train").samples
        compared = own.split("val") if given is None else given
    else:
        assert given is not None
        good = given.where(lambda sample: sample.defective is False)
        units = join_duplicates(good.samples, log_level=logging.DEBUG)
        first = {unit for i, unit in enumerate(dict.fromkeys(units)) if i % 2 == 0}
        ranges = tuple(s for s, unit in zip(good.samples, units, strict=True) if unit in first)
        kept = {id(sample) for sample in ranges}
        compared = given.where(lambda sample: id(sample) not in kept)
    if not compared.samples and data is None:
        raise OptionError(
            "the run has no validation images to calibrate thresholds on, such as one that is cross-fitted; train with "
            "--calibration held-out, or give images that the bundle was not trained on with --data"
        )
    if not compared.samples:
        raise OptionError(
            f"none of the {len(data or ())} images of --data is left to calibrate thresholds on: they are too few, of "
            "other splits, or the bundle was trained, tuned or tested on them; give others, or train with "
            "--calibration held-out"
        )
    if not ranges:
        raise OptionError("there are no training images to take ranges from; give more images with --data")
    return CompressionImages(sample_evenly(list(ranges), CALIBRATION_IMAGES), compared)


def _select_unused(bundle: Bundle, data: Dataset, test: Sequence[Sample]) -> Dataset:
    """The validation images of data with splits, all of data without; none of `test`, nor of the bundle's training."""
    given = data.split("val") if any(sample.split for sample in data.samples) else data
    paths = [sample.image for sample in given.samples]
    seen, hashes = find_seen(unpack_seen(bundle) or {}, paths), content_hashes(paths)
    tested = set(content_hashes(sample.image for sample in test).values())
    left = given.where(lambda s: seen.get(s.image) not in ("train", "tuning") and hashes.get(s.image, "") not in tested)
    if len(left) < len(data):
        log.info(
            f"{len(data) - len(left)} of {len(data)} images are left out: they are of other splits, or the bundle was "
            "trained or tuned on them"
        )
    return left


def add_strangers(batches: Sequence[FloatArray]) -> list[FloatArray]:
    """Every fourth of the prepared images (1, C, H, W) with squares that are black, white and noise.

    Ranges of good images alone would cut off what a defect stands out by.
    """
    rng = np.random.default_rng(0)
    changed = []
    for batch in batches[::4]:
        own = batch.copy()
        height, width = own.shape[2:]
        side = max(1, min(height, width) // 4)
        for kind in range(3):
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            square = own[:, :, y : y + side, x : x + side]
            square[:] = kind if kind < 2 else rng.random(square.shape)
        changed.append(own)
    return changed


def find_loss(compression: Compression) -> str | None:
    """What is lost beyond the stated limits, as a sentence; None where nothing is."""
    # Without good images there is no AUROC.
    name, pair = ("box mAP50", compression.box_map50) if compression.auroc is None else ("AUROC", compression.auroc)
    if pair is not None and pair[0] - pair[1] > compression.max_auroc_loss:
        return (
            f"the {name} falls from {pair[0]:.4f} to {pair[1]:.4f} on {compression.images} images, by more than "
            f"{compression.max_auroc_loss:g}"
        )
    if compression.changed_verdicts > compression.max_verdict_changes * compression.images:
        return (
            f"{compression.changed_verdicts} of {compression.images} verdicts change, more than "
            f"{compression.max_verdict_changes:.2%}"
        )
    return None


def describe(compression: Compression) -> list[str]:
    """Lines for people: what it gains and loses, and whether it pays."""
    (float_ms, int8_ms), (before, after) = compression.latency_ms, compression.graph_bytes
    lines = [
        f"{compression.engine}: {float_ms:.1f} → {int8_ms:.1f} ms an image ({compression.speed_up:.2f} times as fast), "
        f"graph {before / 1e6:.1f} → {after / 1e6:.1f} MB",
        f"{compression.changed_verdicts} of {compression.images} verdicts changed",
    ]
    if compression.auroc is not None:
        lines.append("AUROC {:.4f} → {:.4f}".format(*compression.auroc))
    elif compression.defective == 0:
        lines.append("no defective image among them: what it costs in defects found is not known")
    else:
        lines.append("no AUROC without both good and defective images among them")
    if compression.pixel_ap is not None:
        lines.append("pixel AP {:.4f} → {:.4f}".format(*compression.pixel_ap))
    if compression.box_map50 is not None:
        lines.append("box mAP50 {:.4f} → {:.4f}".format(*compression.box_map50))
    if compression.speed_up < MIN_SPEED_UP:
        lines.append("it does not pay on this machine: keep the float32 bundle")
    return lines


def _new_thresholds(inspector: Inspector, dataset: Dataset, run: Path) -> dict[str, Any]:
    """Fields of the manifest with the thresholds for the scores of this graph; rules and zones stay as they are."""
    manifest = inspector.manifest
    bare = manifest.model_copy(update={"decision": Decision(), "products": {}})
    undecided = Inspector(inspector.bundle, inspector.engine, bare)
    samples = list(dataset.samples)
    fields = calibrate_products(
        manifest, undecided.inspect(samples), samples, _find_target(run), "held-out", dataset,
        temperature=None if manifest.calibration is None else manifest.calibration.temperature,
    )  # fmt: skip
    decision = _with_thresholds(manifest.decision, fields["decision"])
    products = {
        name: ProductDecision(
            decision=_with_thresholds(
                manifest.products[name].decision if name in manifest.products else manifest.decision, own.decision
            ),
            calibration=own.calibration,
        )
        for name, own in fields["products"].items()
    }
    if lost := sorted(manifest.products.keys() - products.keys()):
        raise OptionError(
            f"the bundle has thresholds of its own for {', '.join(lost)}, and among the images are too few good ones "
            f"of these to calibrate them anew; give at least {min_parts(PRODUCT_RATE)} good parts of each of "
            f"{', '.join(sorted(manifest.products))}, with the column product, with --data"
        )
    return {**fields, "decision": decision, "products": products, "refinement": _new_levels(manifest, decision)}


def _with_thresholds(old: Decision, new: Decision) -> Decision:
    return old.model_copy(update={name: getattr(new, name) for name in _THRESHOLDS})


def _new_levels(manifest: Manifest, decision: Decision) -> Any:
    """The refinement, which sees the map between the levels of the decision."""
    if manifest.refinement is None or decision.map_low is None or decision.map_high is None:
        return manifest.refinement
    return manifest.refinement.model_copy(update={"levels": (decision.map_low, decision.map_high)})


def _find_target(run: Path) -> CalibrationTarget:
    """The rates that the thresholds of a run were to achieve; the usual ones for a bundle without its run."""
    if not (run / "run.yaml").is_file():
        return CalibrationTarget()
    config = read_config(run)
    return CalibrationTarget(
        config.false_alarm, config.review, config.escape, config.cost_escape, config.class_thresholds
    )


def _judge(inspector: Inspector, dataset: Dataset) -> tuple[dict[Path, Verdict], MetricSet]:
    """The verdict on each image, and the metrics of all."""
    verdicts: dict[Path, Verdict] = {}

    def keep(sample: Sample, result: Inspection) -> None:
        verdicts[sample.image] = result.verdict

    with warnings.catch_warnings():  # both graphs were calibrated on the same images: they are compared, not praised
        warnings.filterwarnings("ignore", "the bundle was trained, tuned or calibrated on")
        metrics = evaluate(inspector, dataset, speed=False, on_inspection=keep).metrics
    return verdicts, metrics


def _auroc(metrics: MetricSet) -> float | None:
    return None if metrics.image is None or metrics.image.auroc is None else metrics.image.auroc.value


def _pixel_ap(metrics: MetricSet) -> float | None:
    return None if metrics.pixel is None else metrics.pixel.ap


def _box_map50(metrics: MetricSet) -> float | None:
    return None if metrics.boxes is None else metrics.boxes.map50


def _pair(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (before, after)
