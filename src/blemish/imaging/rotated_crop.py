"""Where a turned crop lies in its image, and the way between the two.

Points are at pixel edges, x from 0 to the width. OpenCV's warps speak of pixel centres, half a pixel further in.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError

Bools = NDArray[np.bool_]
Points = NDArray[np.float64]
_WARP_CHANNELS = 4  # OpenCV's warp takes no more at a time
_WARP_SIDE = 32766


@dataclass(frozen=True)
class Turned:
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
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
        shift = np.array(self.centre) - turn @ [self.width / 2, self.height / 2]
        return np.column_stack([turn, shift])

    def to_image(self, points: NDArray[Any]) -> Points:
        """Points (..., 2), x y, from the crop to the image."""
        return np.asarray(np.asarray(points, np.float64) @ self._matrix[:, :2].T + self._matrix[:, 2])

    def to_crop(self, points: NDArray[Any]) -> Points:
        """Points (..., 2), x y, from the image to the crop."""
        return np.asarray((np.asarray(points, np.float64) - self._matrix[:, 2]) @ self._matrix[:, :2])

    def corners(self) -> Points:
        """The crop's four corners in the image."""
        return self.to_image(np.array([[0, 0], [self.width, 0], [self.width, self.height], [0, self.height]]))

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """Image (H, W, C) cut out upright, (height, width, C), linear; beyond its edge its border goes on."""
        _check_side(*image.shape[:2], self.height, self.width)
        parts = [
            self._warped(image[..., at : at + _WARP_CHANNELS], cv2.INTER_LINEAR).reshape(self.height, self.width, -1)
            for at in range(0, image.shape[2], _WARP_CHANNELS)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def crop_mask(self, mask: Bools) -> Bools:
        """Mask (H, W) cut out upright, nearest pixel; False beyond the image's edge."""
        _check_side(*mask.shape, self.height, self.width)
        turned = cv2.warpAffine(
            mask.astype(np.uint8),
            self._centred(),
            (self.width, self.height),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return np.asarray(turned > 0)

    def map_back(self, values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Map (height, width) of the crop laid into the image of `size` (H, W), linear; its border goes on outside."""
        _check_side(*size, self.height, self.width)
        laid = cv2.warpAffine(
            np.ascontiguousarray(values),
            self._centred(),
            (size[1], size[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(laid, np.float32)

    def boxes_back(self, boxes: NDArray[Any]) -> Points:
        """Upright boxes (M, 4) around those of the crop, in the image."""
        return _bounds(self.to_image(_box_corners(boxes)))

    def boxes_into(self, boxes: NDArray[Any]) -> Points:
        """Boxes (M, 4) of the crop around those of the image."""
        return _bounds(self.to_crop(_box_corners(boxes)))

    def _centred(self) -> NDArray[np.float64]:
        """The matrix for pixel centres."""
        matrix = self._matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return matrix

    def _warped(self, image: NDArray[Any], interpolation: int) -> NDArray[Any]:
        return np.asarray(
            cv2.warpAffine(
                np.ascontiguousarray(image),
                self._centred(),
                (self.width, self.height),
                flags=interpolation | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )


def _box_corners(boxes: NDArray[Any]) -> Points:
    """(M, 4) x0 y0 x1 y1 to (M, 4, 2)."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def _bounds(corners: Points) -> Points:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _check_side(*sides: int) -> None:
    if max(sides) > _WARP_SIDE:
        raise ImageError(f"an image of more than {_WARP_SIDE} px a side cannot be turned; cut it up before")
