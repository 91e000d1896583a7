"""Certificate of an engine: a bundle gives on it, on this machine, what it gives on the engine that it shipped with.

A bundle's own certificate compares network and graph on ONNX Runtime's CPU. Any other engine or device is compared with
that here, on real images. Certificates are kept in a file next to the bundle.
"""

import json
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from blemish.arrays import FloatArray
from blemish.dataset.sample import Sample
from blemish.errors import BundleError, OptionError
from blemish.files import FrozenModel, file_sha256, write_atomic
from blemish.inspection.agreement import NOISE, TOLERANCE, installed_versions, measure_agreement, too_many_changes
from blemish.inspection.engines import Engine
from blemish.inspection.inspector import Inspector

SUFFIX = ".certificates.json"  # of the file next to a bundle
REFERENCE = ("onnxruntime", "cpu")  # what a bundle's own certificate and thresholds were made with
TIMED_RUNS = 20
MAX_CHANGES = 100  # verdicts that are listed
LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "openvino", "tensorrt", "numpy")


class ChangedVerdict(FrozenModel):
    """An image that an engine decides otherwise than the reference."""

    image: str
    reference: str
    verdict: str


class EngineCertificate(FrozenModel):
    """Agreement of a bundle on an engine and device with ONNX Runtime on the CPU."""

    bundle_sha256: str
    engine: str
    device: str
    machine: str
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    images: int
    noise: float  # share of full scale that was added to the images
    tolerance: float
    score_difference: float  # largest, as a share of the score's scale
    map_difference: float
    detections_matched: float | None = None  # share of boxes that both have
    verdict_agreement: float  # share of images with the same verdict
    changed: tuple[ChangedVerdict, ...] = ()
    latency_ms: float  # median of one image or tile, network only
    reference_latency_ms: float
    problem: str | None = None  # what is beyond the tolerance
    accepted: str | None = None  # name and reason of the person who takes the responsibility for it

    @property
    def elsewhere(self) -> bool:
        """Whether it was made on another machine, or with other versions of the libraries than those here."""
        return (self.machine, self.versions) != (this_machine(), installed_versions(LIBRARIES))

    @property
    def holds(self) -> bool:
        """Whether the differences are within the tolerance, or somebody accepted them."""
        return self.problem is None or self.accepted is not None


def certify_engine(
    inspector: Inspector, reference: Inspector, samples: Sequence[Sample], trained_on: bool = False
) -> EngineCertificate:
    """Compare an inspector with one of the same bundle on the reference engine, on the same prepared images.

    `trained_on` says that the images are those of training, which get a little noise. Raises OptionError without
    images, ImageError for one that cannot be read.
    """
    if not samples:
        raise OptionError("there is no image to compare the engines on; name some with --images")
    agreement, compared = measure_agreement(
        samples, inspector.prepare, reference.engine.run, inspector.engine.run, trained_on
    )
    changed = []
    for sample, first, second in compared:
        expected, found = (str(reference.inspect_outputs(sample, own).verdict) for own in (first, second))
        if expected != found:
            changed.append(ChangedVerdict(image=str(sample.image), reference=expected, verdict=found))
    problem = agreement.problem()
    if problem is None and too_many_changes(len(changed), len(samples)):
        problem = f"{len(changed)} of {len(samples)} images get another verdict"
    latency, reference_latency = measure_latency(inspector.engine, reference.engine, inspector.prepare(samples[0])[:1])
    return EngineCertificate(
        bundle_sha256=file_sha256(inspector.bundle.path),
        engine=inspector.engine.name,
        device=inspector.engine.device,
        machine=this_machine(),
        versions=installed_versions(LIBRARIES),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(samples),
        noise=NOISE if agreement.noise else 0.0,
        tolerance=TOLERANCE,
        score_difference=agreement.relative["score"],
        map_difference=agreement.relative["map"],
        detections_matched=agreement.boxes.share if agreement.boxes.detections else None,
        verdict_agreement=1 - len(changed) / len(samples),
        changed=tuple(changed[:MAX_CHANGES]),
        latency_ms=latency,
        reference_latency_ms=reference_latency,
        problem=problem,
    )


def certificates_file(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + SUFFIX)


def read_certificates(bundle: Path) -> list[EngineCertificate]:
    """The certificates next to a bundle, those of other bytes than the bundle's left out; BundleError if damaged."""
    path = certificates_file(bundle)
    if not path.is_file():
        return []
    try:
        kept = TypeAdapter(list[EngineCertificate]).validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{path} cannot be read: {reason}; remove it and certify again") from error
    own = file_sha256(bundle)
    return [certificate for certificate in kept if certificate.bundle_sha256 == own]


def find_certificate(certificates: Sequence[EngineCertificate], engine: str, device: str) -> EngineCertificate | None:
    """The newest certificate of an engine on a device, made here before those of `elsewhere`; None without any."""
    own = [c for c in certificates if (c.engine, c.device) == (engine, device)]
    return max(own, key=lambda c: (c.machine == this_machine(), c.created), default=None)


def this_machine() -> str:
    return f"{platform.node()}, {platform.processor() or platform.machine()}"


def keep_certificate(bundle: Path, certificate: EngineCertificate) -> Path:
    """Write a certificate next to its bundle, in the place of an earlier one of the same engine, device and machine."""
    key = (certificate.engine, certificate.device, certificate.machine)
    others = [c for c in read_certificates(bundle) if (c.engine, c.device, c.machine) != key]
    content: list[dict[str, Any]] = [c.model_dump(mode="json") for c in [*others, certificate]]
    path = certificates_file(bundle)
    write_atomic(path, json.dumps(content, indent=1) + "\n")
    return path


def measure_latency(target: Engine, reference: Engine, batch: FloatArray) -> tuple[float, float]:
    """Median milliseconds of both in turns, so that other work on the machine slows both."""
    times: dict[str, list[float]] = {"target": [], "reference": []}
    for turn in range(TIMED_RUNS + 2):
        for name, engine in (("target", target), ("reference", reference)):
            begin = time.perf_counter()
            engine.run(batch)
            if turn >= 2:  # the first runs warm up
                times[name].append(1000 * (time.perf_counter() - begin))
    return float(np.median(times["target"])), float(np.median(times["reference"]))
