"""Proof that the exported graph agrees with the network, on real images.

For detections neither order nor a tie at a threshold makes a difference.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.arrays import Boxes, FloatArray
from blemish.dataset.sample import Sample
from blemish.errors import ExportError
from blemish.geometry import box_iou
from blemish.inspection.engines import split_inputs
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Certificate
from blemish.inspection.result import Outputs
from blemish.methods.base import Method

TOLERANCE = 1e-3  # largest accepted difference, relative to the output's own scale
NOISE = 0.02  # share of full scale
NO_SCALE = 0.1  # outputs below this share of those with noise are distances of zero, with no scale of their own
SAME_BOX = 0.99  # IoU above which two boxes of one class are the same detection
MIN_MATCHED = 0.99  # share of detections that must agree; a tie in the suppression may fall either way
LIBRARIES = ("torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")

Compared = tuple[Sample, Outputs, Outputs]  # outputs of the network and of the graph


def certify(
    method: Method, inspector: Inspector, samples: list[Sample], trained_on: bool = False
) -> tuple[Certificate, list[Compared]]:
    """Compare network and graph on the same prepared images; raises ExportError beyond TOLERANCE.

    Detections are compared one by one in any order, all else number by number. Images that were `trained_on` get a
    little noise: a memory bank contains them, and distances of zero have no scale to compare on. So do images whose
    outputs are next to nothing without it, such as those that are equal to a training image. The verdict agreement of
    the certificate follows from the thresholds, which are not chosen yet.
    """
    compared: list[Compared] = []
    rng = np.random.default_rng(0)
    relative, absolute = {"score": 0.0, "map": 0.0}, {"score": 0.0, "map": 0.0}
    boxes = DetectionAgreement()
    noise = trained_on

    def run_both(batch: FloatArray) -> tuple[Outputs, Outputs]:
        with torch.inference_mode():
            own = {name: value.numpy() for name, value in method(*network_inputs(method, batch)).items()}
        return Outputs(**own), inspector.engine.run(batch)

    for sample in samples:
        batch = inspector.prepare(sample)
        noisy = np.clip(batch + rng.normal(0, NOISE, batch.shape), 0, 1).astype(np.float32)
        trained, shipped = run_both(noisy if trained_on else batch)
        differences = output_differences(trained, shipped)
        if not trained_on and any(own.relative > TOLERANCE for own in differences.values()):
            pair = run_both(noisy)
            scaled = output_differences(*pair)
            if all(own.scale < NO_SCALE * scaled[name].scale or own.relative <= TOLERANCE
                   for name, own in differences.items()):  # fmt: skip
                (trained, shipped), differences, noise = pair, scaled, True
        compared.append((sample, trained, shipped))
        if trained.boxes is not None:
            boxes.add(trained, shipped)
        for own in differences.values():
            absolute[own.kind] = max(absolute[own.kind], own.absolute)
            relative[own.kind] = max(relative[own.kind], own.relative)
    relative["score"] = max(relative["score"], boxes.score_difference)
    relative["map"] = max(relative["map"], boxes.mask_difference)
    if boxes.share < MIN_MATCHED:
        raise ExportError(
            f"of {boxes.detections} detections the exported graph and the network share only {boxes.share:.1%}; "
            "nothing was shipped"
        )
    if max(relative.values()) > TOLERANCE:
        raise ExportError(
            f"the exported graph differs from the network by {max(relative.values()):.2g} of its scale, "
            f"more than {TOLERANCE:g}; nothing was shipped"
        )
    return Certificate(
        images=len(samples),
        noise=NOISE if noise else 0.0,
        tolerance=TOLERANCE,
        score_difference=relative["score"],
        map_difference=relative["map"],
        score_difference_absolute=max(absolute["score"], boxes.score_difference),
        map_difference_absolute=max(absolute["map"], boxes.mask_difference),
        detections=boxes.detections if "boxes" in inspector.manifest.outputs else None,
        detections_matched=boxes.share if boxes.detections else None,
        verdict_agreement=0.0,
        versions=library_versions(),
    ), compared


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far two graphs differ in one output of an image."""

    kind: str  # "score" or "map"
    absolute: float
    scale: float  # largest absolute value of the output

    @property
    def relative(self) -> float:
        return self.absolute / max(self.scale, 1e-12)


def output_differences(expected: Outputs, found: Outputs) -> dict[str, OutputDifference]:
    """By output, the differences of all outputs but detections."""
    differences = {}
    for name in expected.kinds():
        values = getattr(expected, name)
        if name.startswith("box") or not values.size:
            continue
        kind = "score" if "score" in name and values.ndim < 3 else "map"
        difference = float(np.abs(values - getattr(found, name)).max())
        differences[name] = OutputDifference(kind, difference, float(np.abs(values).max()))
    return differences


def network_inputs(method: Method, batch: FloatArray) -> list[torch.Tensor]:
    """The arguments of a method's `forward`, from a batch that the inspector prepared."""
    return [torch.from_numpy(own) for own in split_inputs(batch, 2 if method.uses_template else 1)]


def verdict_agreement(compared: list[Compared], inspector: Inspector) -> float:
    """Share of images for which network and graph lead to the same verdict, by the decision for the product."""
    same = [
        inspector.inspect_outputs(sample, trained).verdict == inspector.inspect_outputs(sample, shipped).verdict
        for sample, trained, shipped in compared
    ]
    return float(np.mean(same)) if same else 0.0


def library_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = version(name)
    return found


@dataclass
class DetectionAgreement:
    """Agreement of the detections of two graphs, accumulated over images."""

    detections: int = 0
    matched: int = 0
    score_difference: float = 0.0  # largest of the matched ones
    mask_difference: float = 0.0

    @property
    def share(self) -> float:
        return self.matched / self.detections if self.detections else 1.0

    def add(self, expected: Outputs, found: Outputs) -> None:
        """Compare the detections of N images: those of a class, best first, each with the one it overlaps most."""
        assert expected.boxes is not None
        for image in range(len(expected.boxes)):
            self._add_image(expected.row(image), found.row(image))

    def _add_image(self, expected: Outputs, found: Outputs) -> None:
        boxes, scores, labels, masks = _without_padding(expected)
        other_boxes, other_scores, other_labels, other_masks = _without_padding(found)
        self.detections += max(len(scores), len(other_scores))
        overlap = box_iou(boxes, other_boxes) * (labels[:, None] == other_labels[None])
        free = np.ones(len(other_scores), np.bool_)
        for i in np.argsort(-scores, kind="stable"):
            # Boxes on top of one another are distinguished by their scores.
            same = (overlap[i] > SAME_BOX) & free
            if not same.any():
                continue
            j = int(np.where(same, np.abs(other_scores - scores[i]), np.inf).argmin())
            free[j] = False
            self.matched += 1
            self.score_difference = max(self.score_difference, abs(float(scores[i] - other_scores[j])))
            if masks is not None and other_masks is not None:
                self.mask_difference = max(self.mask_difference, float(np.abs(masks[i] - other_masks[j]).max()))


def _without_padding(row: Outputs) -> tuple[Boxes, NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Boxes, scores, labels and masks of one image, without the padding."""
    assert row.boxes is not None
    assert row.box_scores is not None
    assert row.box_labels is not None
    real = row.box_scores[0] > 0
    masks = None if row.box_masks is None else row.box_masks[0][real]
    return row.boxes[0][real].astype(np.float64), row.box_scores[0][real], row.box_labels[0][real], masks
