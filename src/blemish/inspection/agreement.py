"""Agreement of two ways to run the same graph, on real images: network and export, or one engine and another.

For detections neither order nor a tie at a threshold makes a difference.
"""

import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Boxes, FloatArray
from blemish.dataset.sample import Sample
from blemish.geometry import box_iou
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import Outputs

TOLERANCE = 1e-3  # largest accepted difference, relative to the output's own scale
NOISE = 0.02  # share of full scale
NO_SCALE = 0.1  # outputs below this share of those with noise are distances of zero, with no scale of their own
SAME_BOX = 0.99  # IoU above which two boxes of one class are the same detection
# Share of the images for which two graphs may give different verdicts, or one of them: thresholds lie at scores of good
# images, so rounding may put one on either side.
MAX_VERDICT_CHANGES = 0.1
MIN_MATCHED = 0.99  # share of detections that must agree; a tie in the suppression may fall either way

Compared = tuple[Sample, Outputs, Outputs]  # outputs of the reference and of what is compared with it
Run = Callable[[FloatArray], Outputs]  # (N, C, H, W) float32 -> outputs


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far two graphs differ in one output of an image."""

    kind: str  # "score" or "map"
    absolute: float
    scale: float  # largest absolute value of the output

    @property
    def relative(self) -> float:
        return self.absolute / max(self.scale, 1e-12)


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
                self.mask_difference = max(self.mask_difference, largest_difference(masks[i], other_masks[j]))


@dataclass
class Agreement:
    """Largest differences over all compared images."""

    relative: dict[str, float] = field(default_factory=lambda: {"score": 0.0, "map": 0.0})
    absolute: dict[str, float] = field(default_factory=lambda: {"score": 0.0, "map": 0.0})
    boxes: DetectionAgreement = field(default_factory=DetectionAgreement)
    noise: bool = False  # whether images had to be compared with a little noise

    def problem(self, tolerance: float = TOLERANCE) -> str | None:
        """What is beyond the tolerance, as the end of a sentence; None where nothing is."""
        if self.boxes.share < MIN_MATCHED:
            return f"of {self.boxes.detections} detections only {self.boxes.share:.1%} are the same"
        if (largest := max(self.relative.values())) > tolerance:
            return f"outputs differ by {largest:.2g} of their scale, more than {tolerance:g}"
        return None


def measure_agreement(
    samples: Iterable[Sample], prepare: Callable[[Sample], FloatArray], reference: Run, target: Run, noise: bool = False
) -> tuple[Agreement, list[Compared]]:
    """Run both on the same prepared images and compare detections one by one in any order, all else number by number.

    With `noise` all images get a little noise, as those must on which a memory bank was trained: distances of zero have
    no scale to compare on. Without it, only images get noise whose outputs are next to nothing without it, such as
    those that are equal to a training image.
    """
    agreement, compared = Agreement(noise=noise), []
    rng = np.random.default_rng(0)
    for sample in samples:
        batch = prepare(sample)
        noisy = np.clip(batch + rng.normal(0, NOISE, batch.shape), 0, 1).astype(np.float32)
        used = noisy if noise else batch
        pair = reference(used), target(used)
        differences = output_differences(*pair)
        if not noise and any(own.relative > TOLERANCE for own in differences.values()):
            with_noise = reference(noisy), target(noisy)
            scaled = output_differences(*with_noise)
            if all(own.scale < NO_SCALE * scaled[name].scale or own.relative <= TOLERANCE
                   for name, own in differences.items()):  # fmt: skip
                pair, differences, agreement.noise = with_noise, scaled, True
        compared.append((sample, *pair))
        if pair[0].boxes is not None:
            agreement.boxes.add(*pair)
        for own in differences.values():
            agreement.absolute[own.kind] = max(agreement.absolute[own.kind], own.absolute)
            agreement.relative[own.kind] = max(agreement.relative[own.kind], own.relative)
    for kind, largest in (("score", agreement.boxes.score_difference), ("map", agreement.boxes.mask_difference)):
        agreement.relative[kind] = max(agreement.relative[kind], largest)
        agreement.absolute[kind] = max(agreement.absolute[kind], largest)
    return agreement, compared


def output_differences(expected: Outputs, found: Outputs) -> dict[str, OutputDifference]:
    """By output, the differences of all outputs but detections."""
    differences = {}
    for name in expected.kinds():
        values = getattr(expected, name)
        if name.startswith("box") or not values.size:
            continue
        kind = "score" if "score" in name and values.ndim < 3 else "map"
        scale = float(np.abs(values).max(where=np.isfinite(values), initial=0))
        differences[name] = OutputDifference(kind, largest_difference(values, getattr(found, name)), scale)
    return differences


def largest_difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest absolute difference of two arrays of one shape; infinite where only one of two values is a number."""
    if expected.shape != found.shape:
        return float("inf")
    differ = ~((expected == found) | (np.isnan(expected) & np.isnan(found)))
    if not differ.any():
        return 0.0
    largest = float(np.abs(expected[differ] - found[differ]).max())
    return float("inf") if np.isnan(largest) else largest


def verdict_agreement(compared: list[Compared], inspector: Inspector) -> float:
    """Share of images for which both lead to the same verdict, by the decision for the product."""
    same = [
        inspector.inspect_outputs(sample, expected).verdict == inspector.inspect_outputs(sample, found).verdict
        for sample, expected, found in compared
    ]
    return float(np.mean(same)) if same else 0.0


def too_many_changes(changed: int, images: int) -> bool:
    """Whether more verdicts changed than rounding at a threshold explains."""
    return changed > max(1, MAX_VERDICT_CHANGES * images)


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in libraries:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _without_padding(row: Outputs) -> tuple[Boxes, NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Boxes, scores, labels and masks of one image, without the padding."""
    assert row.boxes is not None
    assert row.box_scores is not None
    assert row.box_labels is not None
    real = row.box_scores[0] > 0
    masks = None if row.box_masks is None else row.box_masks[0][real]
    return row.boxes[0][real].astype(np.float64), row.box_scores[0][real], row.box_labels[0][real], masks
