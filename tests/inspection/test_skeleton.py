"""The skeleton of random strokes against scikit-image's."""

import cv2
import numpy as np
import pytest
from skimage.measure import label
from skimage.morphology import skeletonize

from blemish.inspection.skeleton import longest_path, thin


@pytest.mark.parametrize("seed", range(4))
def test_skeleton_is_thin_inside_and_in_one_piece(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(40, 260, (5, 2)).round().astype(np.int32)
    mask = cv2.polylines(np.zeros((300, 300), np.uint8), [corners], isClosed=False, color=1, thickness=11) > 0
    skeleton = thin(mask)
    assert not (skeleton & ~mask).any()
    assert label(skeleton, connectivity=2).max() == 1
    blocks = skeleton[1:, 1:] & skeleton[:-1, 1:] & skeleton[1:, :-1] & skeleton[:-1, :-1]
    assert blocks.sum() <= 2  # no 2 x 2 blocks but where lines cross
    _, length, _ = longest_path(skeleton)
    _, reference, _ = longest_path(skeletonize(mask))
    assert length == pytest.approx(reference, rel=0.06)
