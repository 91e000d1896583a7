"""A rotated crop of an image, and the transforms between the two.

Points are at pixel edges, x from 0 to the width. OpenCV's warps speak of pixel centres, half a pixel further in.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Boxes, FloatMap, Mask, Points
from blemish.errors import ImageError
from blemish.imaging.prepare import by_channels

_MAX_SIDE = 32766  # of OpenCV's warp


@dataclass(frozen=True)
class RotatedCrop:
    """An upright crop of `height` × `width` px around `centre` (x, y) of the image, whose x axis points `degrees`
    anticlockwise, as seen on screen, from that of the image; at the image's own scale."""

    centre: tuple[float, float]
    degrees: float
    height: int
    width: int

    @cached_property
    def _matrix(self) -> NDArray[np.float64]:
        """(2, 3) from the crop to the image."""
        angle = np.radians(self.degrees)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
        shift = np.array(self.centre) - rotation @ [self.width / 2, self.height / 2]
        return np.column_stack([rotation, shift])

    def to_image(self, points: NDArray[Any]) -> Points:
        """Points (..., 2), x y, from the crop to the image."""
        return np.asarray(np.asarray(points, np.float64) @ self._matrix[:, :2].T + self._matrix[:, 2])

    def to_crop(self, points: NDArray[Any]) -> Points:
        """Points (..., 2), x y, from the image to the crop."""
        return np.asarray((np.asarray(points, np.float64) - self._matrix[:, 2]) @ self._matrix[:, :2])

    def corners(self) -> Points:
        """The crop's four corners (4, 2) in the image."""
        return self.to_image(np.array([[0, 0], [self.width, 0], [self.width, self.height], [0, self.height]]))

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """Image (H, W, C) cut out upright, (height, width, C), linear; beyond its border its edge pixels go on."""
        return by_channels(image, lambda layers: self._warp(np.ascontiguousarray(layers), inverse=True))

    def crop_mask(self, mask: Mask) -> Mask:
        """Mask (H, W) cut out upright, nearest pixel; False beyond the image's border."""
        cut = self._warp(
            mask.astype(np.uint8), inverse=True, interpolation=cv2.INTER_NEAREST, border=cv2.BORDER_CONSTANT
        )
        return np.asarray(cut > 0)

    def map_to_image(self, values: FloatMap, size: tuple[int, int]) -> FloatMap:
        """Map (height, width) of the crop in the image of `size` (H, W), linear; its border goes on outside."""
        return np.asarray(self._warp(np.ascontiguousarray(values), size), np.float32)

    def boxes_to_image(self, boxes: NDArray[Any]) -> Boxes:
        """Upright boxes (M, 4) around those of the crop, in the image."""
        return _bounding_boxes(self.to_image(_box_corners(boxes)))

    def boxes_to_crop(self, boxes: NDArray[Any]) -> Boxes:
        """Boxes (M, 4) of the crop around those of the image."""
        return _bounding_boxes(self.to_crop(_box_corners(boxes)))

    def _warp(
        self,
        image: NDArray[Any],
        size: tuple[int, int] | None = None,
        inverse: bool = False,
        interpolation: int = cv2.INTER_LINEAR,
        border: int = cv2.BORDER_REPLICATE,
    ) -> NDArray[Any]:
        """Warp from the crop to an image of `size` (H, W); with `inverse`, from the image to the crop."""
        height, width = size or (self.height, self.width)
        if max(*image.shape[:2], self.height, self.width, height, width) > _MAX_SIDE:
            raise ImageError(f"an image of more than {_MAX_SIDE} px a side cannot be turned; cut it up before")
        matrix = self._matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # for pixel centres
        flags = interpolation | (cv2.WARP_INVERSE_MAP if inverse else 0)
        return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border)


def _box_corners(boxes: NDArray[Any]) -> Points:
    """(M, 4) x0 y0 x1 y1 to (M, 4, 2)."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def _bounding_boxes(corners: Points) -> Boxes:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
