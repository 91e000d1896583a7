"""From a trained network to the bundle that ships: export, proof of agreement, thresholds.

Everything after the export goes through the Inspector on the exported graph, so the thresholds belong to what ships.
"""

import hashlib
import io
import json
import logging
import platform
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

import blemish
from blemish.dataset.sample import Dataset, Sample
from blemish.dataset.synthetic_samples import split_synthetic
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import dataset_sha256
from blemish.errors import ExportError
from blemish.imaging.read import encode, image_header
from blemish.inspection.bundle import write_bundle
from blemish.inspection.engines import split_inputs
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import (
    Calibration,
    Certificate,
    Decision,
    InputSpec,
    Manifest,
    ProductDecision,
    Provenance,
    Scale,
)
from blemish.inspection.result import Inspection, Outputs
from blemish.inspection.support_set import pack_vectors
from blemish.methods.base import Method
from blemish.training.learn.data import View
from blemish.training.learn.windows import learns_from_windows
from blemish.training.ship.calibrate import (
    PRODUCT_RATE,
    CalibrationTarget,
    Source,
    calibrate,
    has_own_thresholds,
    min_good_images,
)
from blemish.training.ship.calibration_data import CalibrationData, collect_by_product
from blemish.training.ship.parity import MIN_MATCHED, DetectionAgreement

OPSET = 17
TOLERANCE = 1e-3  # largest difference that export accepts, in parts of the output's own scale
MAX_VERDICT_CHANGES = 0.1  # share of the certified images that graph and network may judge otherwise, or one of them:
# thresholds lie at these very images' scores, and rounding may put one on either side
CERTIFIED_IMAGES = 32  # real images that the certificate rests on
NOISE = 0.02  # share of full scale
VALID_MASK = "valid_mask.png"
FOLDS_CHOSE = (
    "the best epoch, and of a classifier the temperature, was chosen in each fold on the images that it then scored, "
    "so what is promised may flatter"
)
LIBRARIES = ("torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a bundle says of where it came from."""

    dataset: Dataset
    options: dict[str, Any]
    seed: int
    name: str
    scale: Scale | None = None


def export_graph(method: Method, spec: InputSpec) -> bytes:
    """The ONNX graph of a method, for any number of images at the input's fixed size."""
    method = method.eval().cpu()
    inputs = ["images", "template"] if method.uses_template else ["images"]
    example = tuple(torch.rand(2, spec.channels, spec.height, spec.width) for _ in inputs)
    with torch.inference_mode():
        names = list(method(*example))
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every constant shape, and shapes are constant here
            torch.onnx.export(
                method,
                example,
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=names,
                dynamic_axes={name: {0: "n"} for name in [*inputs, *names]},
            )
    except Exception as error:  # the exporter has no common error type
        raise ExportError(f"the network could not be exported to ONNX: {str(error).splitlines()[0][:200]}") from error
    graph = buffer.getvalue()
    onnx.checker.check_model(onnx.load_from_string(graph))
    return graph


def ship(
    method: Method,
    view: View,
    origin: Origin,
    path: Path,
    *,
    target: CalibrationTarget,
    cross_fitted: list[Inspection] | None = None,
    log_level: int = logging.INFO,
) -> Path:
    """Write the bundle of a trained method; raises ExportError when the graph does not agree with the network.

    Thresholds come from the validation images of `origin.dataset`, or from `cross_fitted` results on the real training
    ones.
    """
    log.log(log_level, "exporting the graph")
    graph = export_graph(method, view.input)
    manifest = _manifest(method, view, origin, graph)
    known = method.support_set()
    parts = {}
    if known is not None:
        manifest, parts = manifest.model_copy(update={"support": known[0]}), {known[0].member: pack_vectors(known[1])}
    common_mask = common_valid_mask(origin.dataset)
    if common_mask is not None:
        manifest, parts = manifest.model_copy(update={"valid_mask": VALID_MASK}), {**parts, VALID_MASK: common_mask}
    with TemporaryDirectory() as folder:  # nothing unproven ever stands where a bundle is looked for
        inspector = Inspector.open(write_bundle(Path(folder) / path.name, graph, manifest, parts))

    held = origin.dataset.split("val").samples
    samples = list(held or origin.dataset.split("train").samples)
    certified = spread(samples, CERTIFIED_IMAGES)
    log.log(log_level, f"comparing the graph with the network on {len(certified)} images")
    certificate, compared = certify(method, inspector, certified, learnt=not held)

    log.log(log_level, f"setting thresholds from {len(cross_fitted or samples)} images")
    results = inspector.inspect(samples) if cross_fitted is None else cross_fitted
    truth = samples if cross_fitted is None else list(split_synthetic(origin.dataset.split("train"))[0].samples)
    source: Source = "cross-fitted" if cross_fitted is not None else "held-out" if held else "training"
    kinds = [*manifest.outputs, *(["mask_scores"] if manifest.windows else [])]
    evidence, by_product = collect_by_product(results, truth, kinds)
    temperature = getattr(method, "temperature", None)  # of a classifier; it is applied in the graph

    def decided(evidence: CalibrationData) -> tuple[Decision, Calibration]:
        if manifest.windows:  # their map is a probability like that of a mask, not one to be held against good images
            evidence.good_peaks.clear()
        decision, calibration = calibrate(evidence, target, source)
        calibration.temperature = None if temperature is None else float(temperature)
        if cross_fitted is not None and method.monitor is not None:
            calibration.warnings.append(FOLDS_CHOSE)
        return decision, calibration

    decision, calibration = decided(evidence)
    products = {}
    names = sorted({sample.product for sample in origin.dataset.samples if sample.product is not None})
    if len(names) > 1:
        for name in names:
            if name in by_product and has_own_thresholds(by_product[name]):
                own_decision, own_calibration = decided(by_product[name])
                own_decision = with_regions_of(own_decision, decision)
                products[name] = ProductDecision(decision=own_decision, calibration=own_calibration)
        if pooled := [name for name in names if name not in products]:
            line = (
                f"fewer than {min_good_images(PRODUCT_RATE)} good validation images of {', '.join(pooled)}: "
                "decided by the thresholds of all products together"
            )
            calibration.warnings.append(line)
            log.warning(line)
    decisions = {"decision": decision, "products": products}
    judging = Inspector(inspector.bundle, inspector.engine, manifest.model_copy(update=decisions))
    certificate.verdict_agreement = agreement(compared, judging)
    if round((1 - certificate.verdict_agreement) * len(compared)) > max(1, MAX_VERDICT_CHANGES * len(compared)):
        raise ExportError(
            f"the exported graph and the network come to the same verdict on just {certificate.verdict_agreement:.0%} "
            f"of {len(compared)} images; nothing was shipped"
        )
    update = {**decisions, "calibration": calibration, "certificate": certificate}
    return write_bundle(path, graph, manifest.model_copy(update=update), parts)


def with_regions_of(own: Decision, pooled: Decision) -> Decision:
    """A product's decision, with the thresholds for regions of all products where its own images tell none."""
    if own.map_high is not None:
        return own
    return own.model_copy(update={name: getattr(pooled, name) for name in ("map_high", "map_low", "edge")})


def spread(samples: list[Sample], most: int) -> list[Sample]:
    """At most so many of the samples, from all over them: they often come product by product."""
    count = min(len(samples), most)
    return [samples[i * len(samples) // count] for i in range(count)]


def certify(
    method: Method, inspector: Inspector, samples: list[Sample], learnt: bool = False
) -> tuple[Certificate, list[tuple[Sample, Outputs, Outputs]]]:
    """Compare network and graph on the same prepared images; raises ExportError beyond TOLERANCE.

    Detections are compared one by one, whatever their order; all else number by number. Images that were `learnt` from
    get a little noise: a memory bank knows them by heart, and distances of nothing have no scale to compare on.
    """
    compared = []
    rng = np.random.default_rng(0)
    worst, absolute = {"score": 0.0, "map": 0.0}, {"score": 0.0, "map": 0.0}
    boxes = DetectionAgreement()
    for sample in samples:
        batch = inspector.prepare(sample)
        if learnt:
            batch = np.clip(batch + rng.normal(0, NOISE, batch.shape), 0, 1).astype(np.float32)
        shipped = inspector.engine.run(batch)
        with torch.inference_mode():
            own = {name: value.numpy() for name, value in method(*own_inputs(method, batch)).items()}
        trained = Outputs(**own)
        compared.append((sample, trained, shipped))
        if trained.boxes is not None:
            boxes.add(trained, shipped)
        for name, expected in own.items():
            if name.startswith("box"):
                continue
            kind = "score" if "score" in name and expected.ndim < 3 else "map"
            found = getattr(shipped, name)
            worst[kind] = max(worst[kind], relative_difference(expected, found))
            if expected.size:
                absolute[kind] = max(absolute[kind], float(np.abs(expected - found).max()))
    worst["score"] = max(worst["score"], boxes.score_difference)
    worst["map"] = max(worst["map"], boxes.mask_difference)
    if boxes.share < MIN_MATCHED:
        raise ExportError(
            f"of {boxes.detections} detections the exported graph and the network share just {boxes.share:.1%}; "
            "nothing was shipped"
        )
    if max(worst.values()) > TOLERANCE:
        raise ExportError(
            f"the exported graph differs from the network by {max(worst.values()):.2g} of its scale, "
            f"more than {TOLERANCE:g}; nothing was shipped"
        )
    return Certificate(
        images=len(samples),
        noise=NOISE if learnt else 0.0,
        tolerance=TOLERANCE,
        score_difference=worst["score"],
        map_difference=worst["map"],
        score_difference_absolute=max(absolute["score"], boxes.score_difference),
        map_difference_absolute=max(absolute["map"], boxes.mask_difference),
        detections=boxes.detections if "boxes" in inspector.manifest.outputs else None,
        detections_matched=boxes.share if boxes.detections else None,
        verdict_agreement=0.0,
        versions=library_versions(),
    ), compared


def own_inputs(method: Method, batch: NDArray[np.float32]) -> list[torch.Tensor]:
    """What a method's `forward` takes, from what the inspector prepared."""
    return [torch.from_numpy(part) for part in split_inputs(batch, 2 if method.uses_template else 1)]


def agreement(compared: list[tuple[Sample, Outputs, Outputs]], inspector: Inspector) -> float:
    """Share of images on which network and graph lead to the same verdict, each by the decision for its product."""
    same = [
        inspector.inspect_outputs(sample, trained).verdict == inspector.inspect_outputs(sample, shipped).verdict
        for sample, trained, shipped in compared
    ]
    return float(np.mean(same)) if same else 0.0


def relative_difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest absolute difference in parts of the expected values' largest magnitude."""
    if expected.size == 0:
        return 0.0
    return float(np.abs(expected - found).max() / max(float(np.abs(expected).max()), 1e-12))


def library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = version(name)
    return found


def common_valid_mask(dataset: Dataset) -> bytes | None:
    """PNG of the pixels that count by the masks that most images of a dataset have in common, if they have any."""
    masks = Counter((sample.roi, sample.ignore) for sample in dataset.samples)
    common, images = masks.most_common(1)[0] if masks else ((None, None), 0)
    if common == (None, None) or 2 * images <= len(dataset):
        return None
    first = next(sample for sample in dataset.samples if (sample.roi, sample.ignore) == common)
    drawn_on = image_header(str(first.roi or first.ignore))
    return encode(valid_mask(first, (drawn_on.height, drawn_on.width)), ".png")


def _manifest(method: Method, view: View, origin: Origin, graph: bytes) -> Manifest:
    masked = any(sample.roi or sample.ignore for sample in origin.dataset.samples)
    shaped = view.roi is not None and view.roi.limits_pixels
    graph_outputs = [output.name for output in onnx.load_from_string(graph).graph.output]
    has_map = "anomaly_map" in graph_outputs
    return Manifest(
        name=origin.name,
        classes=list(method.classes),
        outputs=graph_outputs,
        input=view.input,
        windows=learns_from_windows(type(method), view.tiling is not None),
        template=method.uses_template,
        # A graph knows nothing of pixels that do not count, a letterbox's bars among them; where there are such, the
        # map's maximum over the others is the score, for every image alike.
        score_source="map" if has_map and (masked or shaped or view.input.fit == "letterbox") else "graph",
        tiling=view.tiling,
        roi=view.roi,
        scale=origin.scale,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            blemish=blemish.__version__,
            method=method.info.name,
            branch=method.info.branch,
            paper=method.info.paper,
            options=origin.options,
            seed=origin.seed,
            data={
                "name": origin.dataset.root.name,
                "format": origin.dataset.format,
                "counts": {split: len(origin.dataset.split(split)) for split in ("train", "val", "test")},
                "sha256": dataset_sha256(origin.dataset),
            },
            versions=library_versions(),
            config_sha256=hashlib.sha256(json.dumps(origin.options, sort_keys=True).encode()).hexdigest(),
        ),
    )
