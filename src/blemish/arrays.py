"""The array types of the whole program: the dtype and shape that each name stands for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # (H, W) or (H, W, C) as read: uint8, uint16 or float32
Picture = NDArray[np.uint8]  # (H, W, 3) RGB, for display
GreyImage = NDArray[np.float32]  # (H, W) in [0, 1]
FloatImage = NDArray[np.float32]  # (H, W, C) in [0, 1]
FloatMap = NDArray[np.float32]  # (H, W) or (..., H, W): scores, probabilities or coverage by pixel
FloatArray = NDArray[np.float32]  # of any shape, as graphs take and give it
Mask = NDArray[np.bool_]  # (H, W)
ClassMap = NDArray[np.uint8]  # (H, W): 0 for no defect, k for the k-th class
Flags = NDArray[np.bool_]  # (N,): a yes or no for each of N items
Scores = NDArray[np.float64]  # (N,)
Boxes = NDArray[np.float64]  # (N, 4) x0 y0 x1 y1 in pixels, x1 and y1 exclusive
PixelBox = tuple[int, int, int, int]  # x0 y0 x1 y1 in whole pixels, x1 and y1 exclusive
Points = NDArray[np.float64]  # (N, 2) x y in pixels
Sizes = NDArray[np.float64]  # (N, 2) width and height in pixels
Vectors = NDArray[np.float32]  # (N, D)
Labels = NDArray[np.int64]  # (N,) class indices
Indices = NDArray[np.int64]  # (N,)
Counts = NDArray[np.int64]  # (N,)
