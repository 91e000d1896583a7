"""A promptable segmentation network of the SAM kind, from an ONNX file on this machine: pixels for a click or a box."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from blemish.arrays import Mask, PixelBox
from blemish.errors import BundleError, DataError
from blemish.report.overlay import as_picture

INPUTS = ("batched_images", "batched_point_coords", "batched_point_labels")
OUTPUTS = ("output_masks", "iou_predictions")
BACKGROUND, FOREGROUND, UPPER_LEFT, LOWER_RIGHT = range(4)  # kinds of points
MAX_SIDE = 1024  # px, the side that these networks work at


class PromptSegmenter:
    """The interface of EfficientSAM's ONNX files (Xiong et al., CVPR 2024): RGB images (1, 3, H, W) from 0 to 1 and
    points in px with their kinds; masks as logits, with the IoU that each is expected to have."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Raises BundleError for a file that is no network of this interface."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class
            raise BundleError(f"{path} is no ONNX network that can be opened") from error
        names = {value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        if missing := [name for name in (*INPUTS, *OUTPUTS) if name not in names]:
            raise BundleError(f"{path} is no segmenter in EfficientSAM's interface; it lacks {', '.join(missing)}")

    def segment_box(self, image: NDArray[Any], box: PixelBox) -> Mask:
        """Mask (H, W) of the object in a box of an image (H, W) or (H, W, C)."""
        x0, y0, x1, y1 = box
        return self._segment(image, [(x0, y0), (x1, y1)], [UPPER_LEFT, LOWER_RIGHT])

    def segment_point(self, image: NDArray[Any], x: float, y: float) -> Mask:
        """Mask (H, W) of the object at a point of an image (H, W) or (H, W, C)."""
        return self._segment(image, [(x, y)], [FOREGROUND])

    def _segment(self, image: NDArray[Any], points: Sequence[tuple[float, float]], kinds: Sequence[int]) -> Mask:
        picture = as_picture(image)
        height, width = picture.shape[:2]
        scale = min(1.0, MAX_SIDE / max(height, width))
        if scale < 1:
            picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        images = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / 255
        coords = (np.array(points, np.float32) * scale)[None, None]
        labels = np.array(kinds, np.float32)[None, None]
        masks, ious = self._session.run([*OUTPUTS], dict(zip(INPUTS, (images, coords, labels), strict=True)))
        logits = np.asarray(masks, np.float32)[0, 0, int(np.argmax(np.asarray(ious)[0, 0]))]
        found = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) >= 0
        if not found.any():
            raise DataError("the segmenter finds nothing there")
        return np.asarray(found)
