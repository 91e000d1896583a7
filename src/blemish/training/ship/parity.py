"""Proof that the exported graph agrees with the network, on real images."""

import torch

from blemish.arrays import FloatArray
from blemish.dataset.sample import Sample
from blemish.errors import ExportError
from blemish.inspection.agreement import NOISE, TOLERANCE, Compared, installed_versions, measure_agreement
from blemish.inspection.engines import split_inputs
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Certificate
from blemish.inspection.result import Outputs
from blemish.methods.base import Method

LIBRARIES = ("torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")


def certify(
    method: Method, inspector: Inspector, samples: list[Sample], trained_on: bool = False
) -> tuple[Certificate, list[Compared]]:
    """Compare network and graph on the same prepared images; raises ExportError beyond TOLERANCE.

    Images that were `trained_on` get a little noise. The verdict agreement of the certificate follows from the
    thresholds, which are not chosen yet.
    """

    def run_network(batch: FloatArray) -> Outputs:
        with torch.inference_mode():
            return Outputs(**{name: value.numpy() for name, value in method(*network_inputs(method, batch)).items()})

    agreement, compared = measure_agreement(samples, inspector.prepare, run_network, inspector.engine.run, trained_on)
    if (problem := agreement.problem(TOLERANCE)) is not None:
        raise ExportError(f"the exported graph differs from the network: {problem}; nothing was shipped")
    boxes = agreement.boxes
    return Certificate(
        images=len(samples),
        noise=NOISE if agreement.noise else 0.0,
        tolerance=TOLERANCE,
        score_difference=agreement.relative["score"],
        map_difference=agreement.relative["map"],
        score_difference_absolute=agreement.absolute["score"],
        map_difference_absolute=agreement.absolute["map"],
        detections=boxes.detections if "boxes" in inspector.manifest.outputs else None,
        detections_matched=boxes.share if boxes.detections else None,
        verdict_agreement=0.0,
        versions=installed_versions(LIBRARIES),
    ), compared


def network_inputs(method: Method, batch: FloatArray) -> list[torch.Tensor]:
    """The arguments of a method's `forward`, from a batch that the inspector prepared."""
    return [torch.from_numpy(own) for own in split_inputs(batch, 2 if method.uses_template else 1)]
