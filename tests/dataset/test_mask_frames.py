"""Masks of images that EXIF turns: turned with them where the size tells, set aside where nothing does."""

import numpy as np
import pytest
from PIL import Image

from blemish.dataset.audit import audit_dataset
from blemish.dataset.ground_truth import read_defect_mask
from blemish.dataset.read import read_dataset
from blemish.imaging.read import read_image, write_image

STORED = np.zeros((32, 80), np.uint8)
STORED[16:28, 40:64] = 255


def make_set(folder, orientation, frame, square=False):
    """A defective and a good image with masks, the defective one turned by EXIF; its upright mask."""
    stored = STORED[:, 34:66] if square else STORED
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(stored).save(folder / "images" / "a.jpg", exif=exif, quality=95)
    write_image(folder / "images" / "b.jpg", stored * 0)
    write_image(folder / "masks" / "b.png", stored * 0)
    upright = read_image(folder / "images" / "a.jpg")[..., 0] > 127
    write_image(folder / "masks" / "a.png", stored if frame == "stored" else upright)
    return upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["stored", "upright"])
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_masks_are_turned_or_set_aside(tmp_path, orientation, frame, square):
    upright = make_set(tmp_path, orientation, frame, square)
    dataset = read_dataset(tmp_path)
    a, b = dataset.samples
    assert b.label == "good"
    if orientation == 1 or (orientation >= 5 and not square):
        assert a.defective
        mask = read_defect_mask(a, upright.shape)
        assert (mask & upright).sum() / (mask | upright).sum() > 0.9
        assert not audit_dataset(dataset).serious
    else:
        assert a.defective is None
        assert a.mask is None
        assert any("a.png" in line and "EXIF" in line for line in dataset.broken)
