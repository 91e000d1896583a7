"""From a trained network to the bundle that ships: export, proof of agreement, thresholds.

Everything after the export goes through the Inspector on the exported graph, so thresholds belong to what ships.
"""

import hashlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch

import blemish
from blemish.arrays import Scores
from blemish.dataset.sample import SPLITS, Dataset, Sample
from blemish.dataset.valid_mask import valid_mask
from blemish.dataset.write import dataset_sha256
from blemish.errors import ExportError
from blemish.imaging.read import encode, image_header
from blemish.inspection.agreement import installed_versions, too_many_changes, verdict_agreement
from blemish.inspection.bundle import open_bundle, write_bundle
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import (
    Calibration,
    Decision,
    GraphInfo,
    InputSpec,
    Manifest,
    ProductDecision,
    Provenance,
    Scale,
)
from blemish.inspection.refine import open_refiner
from blemish.inspection.result import Inspection
from blemish.inspection.seen_images import SEEN, join_seen, pack_seen, seen_hashes
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
    min_parts,
)
from blemish.training.ship.calibration_data import CalibrationData, collect_by_product
from blemish.training.ship.estimate_uncertainty import estimate_uncertainty
from blemish.training.ship.forecast import forecast_escapes, score_synthetic_defects
from blemish.training.ship.parity import LIBRARIES, certify
from blemish.training.ship.refine import make_refiner

OPSET = 17
CERTIFIED_IMAGES = 32  # real images that the certificate is based on
VALID_MASK = "valid_mask.png"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """The origin of a bundle, for its manifest."""

    dataset: Dataset
    options: dict[str, Any]
    seed: int
    name: str
    scale: Scale | None = None
    seen_before: Mapping[str, str] = field(default_factory=dict)  # by the runs that this one started from


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
                buffer,  # type: ignore[arg-type]
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
    cross_fitted: tuple[Sequence[Sample], list[Inspection]] | None = None,
    refine: bool = False,
    forecast: bool = False,
    with_uncertainty: bool = False,
    log_level: int = logging.INFO,
) -> Path:
    """Export, certify, calibrate and write the bundle of a trained method.

    Thresholds come from the validation images of `origin.dataset`, or from `cross_fitted` images with their results,
    and never from the images for tuning. `refine` says whether to teach the refinement of regions, `forecast`
    whether to count the defects that would pass, synthetic ones where no validation image is defective,
    `with_uncertainty` whether to estimate how far measurements are from the truth.
    Raises ExportError where the graph does not agree with the network; then nothing is written.
    """
    log.log(log_level, "exporting the graph")
    graph = export_graph(method, view.input)
    manifest = _manifest(method, view, origin, graph)
    members = {SEEN: pack_seen(join_seen(origin.seen_before, seen_hashes(origin.dataset)))}
    if (support := method.support_set()) is not None:
        manifest = manifest.model_copy(update={"support": support[0]})
        members[support[0].member] = pack_vectors(support[1])
    if (mask := common_valid_mask(origin.dataset)) is not None:
        manifest = manifest.model_copy(update={"valid_mask": VALID_MASK})
        members[VALID_MASK] = mask
    with TemporaryDirectory() as folder:  # an unproven bundle is never where bundles are looked for
        inspector = Inspector.open(write_bundle(Path(folder) / path.name, graph, manifest, members))

    validation = origin.dataset.split("val").samples
    held_out = validation or origin.dataset.split("tuning").samples
    certified = sample_evenly(list(held_out or origin.dataset.split("train").samples), CERTIFIED_IMAGES)
    log.log(log_level, f"comparing the graph with the network on {len(certified)} images")
    certificate, compared = certify(method, inspector, certified, trained_on=not held_out)

    source: Source = "held-out" if validation else "training"
    samples: Sequence[Sample] = validation or origin.dataset.split("train").samples
    results: Iterable[Inspection] = ()
    if cross_fitted is not None:
        source, (samples, results) = "cross-fitted", cross_fitted
    log.log(log_level, f"calibrating thresholds on {len(samples)} images")
    if cross_fitted is None:
        results = inspector.inspect(list(samples))
    defects = partial(score_synthetic_defects, inspector, held_out, origin.seed) if forecast else None
    temperature = getattr(method, "temperature", None)  # of a classifier; it is applied in the graph
    temperature = None if temperature is None else float(temperature)
    decisions = calibrate_products(
        manifest, results, samples, target, source, origin.dataset, defects, temperature=temperature
    )
    decided = Inspector(inspector.bundle, inspector.engine, manifest.model_copy(update=decisions))
    same = verdict_agreement(compared, decided)
    if too_many_changes(round((1 - same) * len(compared)), len(compared)):
        raise ExportError(
            f"the exported graph and the network come to the same verdict on only {same:.0%} of {len(compared)} "
            "images; nothing was shipped"
        )
    certificate = certificate.model_copy(update={"verdict_agreement": same})
    update: dict[str, Any] = {**decisions, "certificate": certificate}
    if refine:
        update["refinement"], more = make_refiner(decided, origin.dataset, origin.seed)
        members |= more
    manifest = manifest.model_copy(update=update)
    if with_uncertainty:
        log.log(log_level, "estimating the uncertainty of measurements")
        with TemporaryDirectory() as folder:
            refiner = open_refiner(open_bundle(write_bundle(Path(folder) / path.name, graph, manifest, members)))
        known = estimate_uncertainty(type(method), decided, origin.dataset, origin.seed, refiner, cross_fitted)
        manifest = manifest.model_copy(update={"measurement_uncertainty": known})
    return write_bundle(path, graph, manifest, members)


def calibrate_products(
    manifest: Manifest,
    results: Iterable[Inspection],
    samples: Sequence[Sample],
    target: CalibrationTarget,
    source: Source,
    dataset: Dataset,
    synthetic_defects: Callable[[], Scores] | None = None,
    *,
    temperature: float | None = None,
) -> dict[str, Any]:
    """Fields of the manifest: decision and calibration of all images together, and of each product with enough good
    images. `temperature` is that of class scores, for the record."""
    outputs = [*manifest.outputs, *(["mask_scores"] if manifest.windows else [])]
    overall, by_product = collect_by_product(results, samples, outputs)

    def decide(data: CalibrationData) -> tuple[Decision, Calibration]:
        if manifest.windows:  # their map is a probability like that of a mask, not one to compare with good images
            data.good_peaks.clear()
        decision, calibration = calibrate(data, target, source)
        return decision, calibration.model_copy(update={"temperature": temperature})

    decision, calibration = decide(overall)
    if synthetic_defects is not None and source != "training" and overall.good:
        real, good = np.asarray(overall.defective), np.asarray(overall.good)
        units = overall.defective_units if len(real) else None
        escapes = forecast_escapes(
            good, real if len(real) else synthetic_defects(), not len(real), overall.good_units, units
        )
        calibration = calibration.model_copy(update={"escapes": escapes})
    products: dict[str, ProductDecision] = {}
    names = sorted({sample.product for sample in dataset.samples if sample.product is not None})
    for name in names if len(names) > 1 else ():
        if name in by_product and has_own_thresholds(by_product[name]):
            own, own_calibration = decide(by_product[name])
            own = with_region_thresholds(own, decision)
            products[name] = ProductDecision(decision=own, calibration=own_calibration)
    pooled = [name for name in names if name not in products] if len(names) > 1 else []
    if pooled:
        warning = (
            f"fewer than {min_parts(PRODUCT_RATE)} good validation parts of {', '.join(pooled)}: "
            "decided by the thresholds of all products together"
        )
        calibration = calibration.model_copy(update={"warnings": [*calibration.warnings, warning]})
        log.warning(warning)
    return {"decision": decision, "products": products, "calibration": calibration}


def with_region_thresholds(own: Decision, pooled: Decision) -> Decision:
    """A product's decision, with the region thresholds of all products where its own images give none."""
    if own.map_high is not None:
        return own
    return own.model_copy(update={name: getattr(pooled, name) for name in ("map_high", "map_low", "edge")})


def sample_evenly(samples: list[Sample], limit: int) -> list[Sample]:
    """At most `limit` samples, evenly from the whole list, since it is often in order of products."""
    count = min(len(samples), limit)
    return [samples[i * len(samples) // count] for i in range(count)]


def common_valid_mask(dataset: Dataset) -> bytes | None:
    """PNG of the valid pixels by the masks that most images of a dataset have in common; None without such masks."""
    masks = Counter((sample.roi, sample.ignore) for sample in dataset.samples)
    common, images = masks.most_common(1)[0] if masks else ((None, None), 0)
    if common == (None, None) or 2 * images <= len(dataset):
        return None
    first = next(sample for sample in dataset.samples if (sample.roi, sample.ignore) == common)
    header = image_header(str(first.roi or first.ignore))
    first = replace(first, mask_classes=None, ignore_shapes=None)  # those of this one image
    return encode(valid_mask(first, (header.height, header.width)), ".png")


def graph_info(model: onnx.ModelProto, graph: bytes) -> GraphInfo:
    """The manifest's entry of a graph, whose content is `graph`."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return GraphInfo(opset=opset, nodes=len(model.graph.node), bytes=len(graph))


def _manifest(method: Method, view: View, origin: Origin, graph: bytes) -> Manifest:
    masked = any(sample.roi or sample.ignore for sample in origin.dataset.samples)
    shaped = view.roi is not None and view.roi.limits_pixels
    model = onnx.load_from_string(graph)
    graph_outputs = [output.name for output in model.graph.output]
    has_map = "anomaly_map" in graph_outputs
    return Manifest(
        name=origin.name,
        classes=list(method.classes),
        outputs=graph_outputs,
        input=view.input,
        exclusive_classes=method.exclusive_classes,
        windows=learns_from_windows(type(method), view.tiling is not None),
        template=method.uses_template,
        # A graph does not know invalid pixels, such as a letterbox's bars; where there are some, the score of every
        # image is that of the map's valid pixels.
        score_source="map" if has_map and (masked or shaped or view.input.fit == "letterbox") else "graph",
        worst_share=method.worst_share,
        tiling=view.tiling,
        roi=view.roi,
        scale=origin.scale,
        graph=graph_info(model, graph),
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
                "counts": {split: len(origin.dataset.split(split)) for split in SPLITS},
                "sha256": dataset_sha256(origin.dataset),
            },
            versions=installed_versions(LIBRARIES),
            config_sha256=hashlib.sha256(json.dumps(origin.options, sort_keys=True).encode()).hexdigest(),
        ),
    )
