"""Whether two lists of detections are the same: neither order nor a tie at a threshold makes a difference."""

from dataclasses import dataclass

import numpy as np

from blemish.geometry import box_iou
from blemish.inspection.result import Outputs

SAME_BOX = 0.99  # IoU above which two boxes of one class are the same detection
LEAST_MATCHED = 0.99  # share of detections that must be found again; a tie in the suppression may fall either way


@dataclass
class Agreement:
    """How far detections of two origins agree, summed up over images."""

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
        boxes, scores, labels, masks = _real(expected)
        other_boxes, other_scores, other_labels, other_masks = _real(found)
        self.detections += max(len(scores), len(other_scores))
        overlap = box_iou(boxes, other_boxes) * (labels[:, None] == other_labels[None])
        free = np.ones(len(other_scores), bool)
        for i in np.argsort(-scores, kind="stable"):
            # Boxes on top of one another are told apart by their scores.
            same = (overlap[i] > SAME_BOX) & free
            if not same.any():
                continue
            j = int(np.where(same, np.abs(other_scores - scores[i]), np.inf).argmin())
            free[j] = False
            self.matched += 1
            self.score_difference = max(self.score_difference, abs(float(scores[i] - other_scores[j])))
            if masks is not None and other_masks is not None:
                self.mask_difference = max(self.mask_difference, float(np.abs(masks[i] - other_masks[j]).max()))


def _real(row: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Boxes, scores, labels and masks of one image, without the padding."""
    assert row.boxes is not None
    assert row.box_scores is not None
    assert row.box_labels is not None
    real = row.box_scores[0] > 0
    masks = None if row.box_masks is None else row.box_masks[0][real]
    return row.boxes[0][real].astype(np.float64), row.box_scores[0][real], row.box_labels[0][real], masks
