"""Parts located in each image: results of a crop, upright or rotated, come back in coordinates of the image."""

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle, fixed_boxes, make_bundle, two_masks
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.dataset.sample import Sample
from blemish.errors import ImageError
from blemish.geometry import polygon_mask
from blemish.imaging.pattern_match import encode_pattern
from blemish.imaging.read import write_image
from blemish.imaging.roi import BlobLocator, PatternLocator, Roi
from blemish.imaging.rotated_crop import RotatedCrop
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Verdict

SIZE = (180, 260)
PART = (70, 120)  # height, width
DEFECT = np.array([[80, 15], [104, 15], [104, 27], [80, 27]], np.float64)  # in the part
SPECK = (slice(150, 170), slice(5, 40))  # bright like a defect, but not on the part
AT_HALF = Decision(review=0.5, reject=0.6, map_low=0.64, map_high=0.66)
UPRIGHT = Roi(blob=BlobLocator(level=0.2, upright=True))


def picture(degrees=0.0, centre=(130.0, 88.0), defect=DEFECT):
    """A grey part on black, perhaps with a white defect; and the mask of the defect."""
    crop = RotatedCrop(centre, degrees, *PART)
    image = np.zeros(SIZE, np.uint8)
    image[polygon_mask([tuple(p) for p in crop.corners()], *SIZE)] = 90
    mask = np.zeros(SIZE, bool)
    if defect is not None:
        mask = polygon_mask([tuple(p) for p in crop.to_image(defect)], *SIZE)
    image[mask] = 240
    image[SPECK] = 240
    return image, mask


def pixels_of(inspection):
    found = np.zeros(inspection.size, bool)
    for region in inspection.regions:
        x0, y0, x1, y1 = region.box
        found[y0:y1, x0:x1] |= True if region.mask is None else region.mask
    return found


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("degrees", [-35, 0, 12.5, 40])
@pytest.mark.parametrize("tile", [None, 48])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_map_of_a_rotated_crop_is_mapped_to_the_image(tmp_path, degrees, tile, fit):
    path = anomaly_bundle(tmp_path / "g.blemish", AT_HALF, side=128, roi=UPRIGHT, score_source="map", fit=fit)
    image, mask = picture(degrees)
    before = image.copy()
    result = Inspector.open(path, tile=tile).inspect(image)
    np.testing.assert_array_equal(image, before)
    assert (result.verdict, len(result.regions)) == (Verdict.REJECT, 1)
    assert overlap(pixels_of(result), mask) > 0.8
    assert result.heat_map.shape == result.valid.shape == SIZE
    assert not result.valid[SPECK].any()
    measured = result.regions[0].measurements  # in pixels and directions of the image
    assert measured.area_px == pytest.approx(24 * 12, rel=0.12)
    assert measured.orientation_deg == pytest.approx(degrees, abs=6)
    clean = Inspector.open(path, tile=tile).inspect(picture(degrees, defect=None)[0])
    assert (clean.verdict, clean.regions) == (Verdict.PASS, [])


def test_masks_and_boxes_of_a_rotated_crop_are_mapped_to_the_image(tmp_path):
    image, mask = picture(20)
    two = np.stack([image, np.zeros_like(image)], axis=2)
    two[..., 1] = image  # the blob is found in the mean of both
    path = make_bundle(
        tmp_path / "m.blemish",
        two_masks(),
        ["mask_scores"],
        AT_HALF,
        classes=["good", "a", "b"],
        channels=2,
        side=128,
        roi=UPRIGHT,
    )
    result = Inspector.open(path).inspect(two)
    assert {region.label for region in result.regions} == {"a"}  # of equal ones the first
    assert overlap(pixels_of(result), mask) > 0.8

    # A detector's box in the crop, with a mask of its upper half; the network's input is the crop at 120 x 70.
    half = np.zeros((1, 28, 28), np.float32)
    half[0, :14] = 1
    top = 25  # of a crop of 120 x 70 in 120 x 120
    boxes = fixed_boxes([[80, 15 + top, 104, 27 + top]], [0.9], [0], half)
    names = ["boxes", "box_scores", "box_labels", "box_masks"]
    path = make_bundle(
        tmp_path / "b.blemish", boxes, names, Decision(reject=0.5), roi=UPRIGHT, fit="letterbox", side=120
    )
    result = Inspector.open(path, batch_size=1).inspect(image)
    crop = RotatedCrop((130, 88), 20, *PART)
    upper = np.array([[80, 15], [104, 15], [104, 21], [80, 21]], np.float64)
    expected = polygon_mask([tuple(p) for p in crop.to_image(upper)], *SIZE)
    assert overlap(pixels_of(result), expected) > 0.75
    box = crop.to_image(np.array([[80, 15], [104, 15], [104, 27], [80, 27]]))
    expected_box = [*box.min(axis=0), *box.max(axis=0)]
    np.testing.assert_allclose(result.candidates.corners[0], expected_box, atol=2.5)


def test_a_part_is_located_by_a_pattern(tmp_path):
    rng = np.random.default_rng(0)
    mark = cv2.GaussianBlur(rng.random((40, 50)), (0, 0), 2.5).astype(np.float32)
    mark = ((mark - mark.min()) / np.ptp(mark) * 0.35).astype(np.float32)
    roi = Roi(pattern=PatternLocator(png=encode_pattern(mark), degrees=45, crop=(0, 0, 120, 70)))
    path = anomaly_bundle(tmp_path / "g.blemish", AT_HALF, side=120, roi=roi, score_source="map")
    inspector = Inspector.open(path)
    for centre, degrees in [((120, 90), 0), ((140, 84), 17), ((118.5, 95), -38)]:
        image, mask = picture(degrees, centre)
        part = RotatedCrop(centre, degrees, *PART)
        middle = part.to_image(np.array([25.0, 20.0]))
        spot = RotatedCrop((middle[0], middle[1]), degrees, 40, 50)
        inside = polygon_mask([tuple(p) for p in spot.corners()], *SIZE)
        image[inside] = (spot.map_to_image(mark, SIZE) * 255)[inside].astype(np.uint8)
        result = inspector.inspect(image)
        assert overlap(pixels_of(result), mask) > 0.8, degrees


@pytest.mark.parametrize("empty", [np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)])
def test_a_missing_part_is_an_error_and_never_a_pass(tmp_path, empty):
    path = anomaly_bundle(tmp_path / "g.blemish", AT_HALF, roi=Roi(blob=BlobLocator()))
    inspector = Inspector.open(path)
    with pytest.raises(ImageError, match="no part was found"):
        inspector.inspect(empty)
    write_image(tmp_path / "empty.png", empty[..., None])
    write_image(tmp_path / "part.png", picture(defect=None)[0][..., None])
    found = list(inspector.inspect([tmp_path / "empty.png", tmp_path / "part.png"], on_error="report"))
    assert isinstance(found[0], FailedInspection)
    assert "empty.png" in found[0].message
    assert found[1].size == SIZE
    result = CliRunner().invoke(build_app(), ["inspect", str(path), str(tmp_path / "empty.png")])
    assert result.exit_code == 2
    assert "1 unreadable" in result.output
    assert "0 pass" in result.output


def test_masks_of_a_sample_and_the_location_of_the_part_are_combined(tmp_path):
    image, mask = picture(20)
    write_image(tmp_path / "i.png", image[..., None])
    write_image(tmp_path / "ignore.png", (cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) * 255)[..., None])
    inspector = Inspector.open(
        anomaly_bundle(tmp_path / "g.blemish", AT_HALF, side=128, roi=UPRIGHT, score_source="map")
    )
    assert inspector.inspect(Sample(tmp_path / "i.png")).verdict == Verdict.REJECT
    assert inspector.inspect(Sample(tmp_path / "i.png", ignore=tmp_path / "ignore.png")).verdict == Verdict.PASS
