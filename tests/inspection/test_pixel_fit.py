"""Images at the scale of the training images, and images unlike them, which go to review whatever their score."""

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.imaging.pixel_range import PixelSpec, make_pixel_spec, measure_values
from blemish.imaging.read import write_image
from blemish.imaging.roi import BlobLocator, Roi
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, InputSpec, ProductDecision, Scale, Tiling
from blemish.inspection.result import ReasonKind, Verdict


def opened(path, ranges, spreads=None, side=(64, 64), **fields):
    pixels = PixelSpec(ranges=ranges, spreads=spreads or dict.fromkeys(ranges, 0.0), height=side, width=side)
    return Inspector.open(
        anomaly_bundle(path / "a.blemish", input=InputSpec(channels=1, height=64, width=64, pixels=pixels), **fields)
    )


def share(value, top, dtype, side=64):
    """A plain image of a share of `top`, with a brighter square in it."""
    image = np.full((side, side), 0.2 * top)
    image[20:30, 20:30] = value * top
    return (np.rint(image) if np.issubdtype(dtype, np.integer) else image).astype(dtype)


@pytest.mark.parametrize(
    ("ranges", "top", "dtype"),
    [
        ({"uint8": (0, 255)}, 255, np.uint8),
        ({"uint16": (0, 65535)}, 65535, np.uint16),
        ({"uint16": (0, 4095)}, 4095, np.uint16),
        ({"float32": (0, 1)}, 1, np.float32),
    ],
)
def test_scores_are_shares_of_the_range_of_the_training_images(tmp_path, ranges, top, dtype):
    inspector = opened(tmp_path, ranges)
    bad, good = (inspector.inspect(share(value, top, dtype)) for value in (0.8, 0.3))
    assert (bad.verdict, good.verdict) == (Verdict.REJECT, Verdict.PASS)
    assert bad.score == pytest.approx(0.8, abs=0.004)
    assert len(bad.regions) == 1
    assert bad.regions[0].measurements.contrast == pytest.approx(0.6, abs=0.01)


def test_heights_around_0_are_scaled_and_not_cut_off(tmp_path):
    inspector = opened(tmp_path, {"float32": (-1.0, 1.0)})
    pit = np.zeros((64, 64), np.float32)
    pit[20:30, 20:30] = -0.9
    batch = inspector.prepare(pit)
    assert (batch.min(), batch.max()) == pytest.approx((0.05, 0.5))


@pytest.mark.parametrize("value", [0.1, 0.9], ids=["would pass", "would be rejected"])
@pytest.mark.parametrize(
    ("ranges", "top", "dtype", "kind"),
    [
        ({"uint8": (0, 255)}, 65535, np.uint16, ReasonKind.DEPTH),
        ({"uint16": (0, 4095)}, 255, np.uint8, ReasonKind.DEPTH),
        ({"uint16": (0, 4095)}, 65535, np.uint16, ReasonKind.RANGE),
        ({"float32": (0, 1)}, 255, np.float32, ReasonKind.RANGE),
    ],
)
def test_another_depth_or_range_is_reviewed_with_the_reason(tmp_path, ranges, top, dtype, kind, value):
    inspection = opened(tmp_path, ranges).inspect(share(value, top, dtype))
    assert inspection.verdict == Verdict.REVIEW
    assert [reason.kind for reason in inspection.reasons] == [kind]
    assert "unlike the training images: " in str(inspection.reasons[0])


def test_sizes_from_half_to_twice_those_of_the_training_images_are_decided_on(tmp_path):
    inspector = opened(tmp_path, {"uint8": (0, 255)}, side=(64, 100))
    for side, verdict in ((32, Verdict.PASS), (31, Verdict.REVIEW), (200, Verdict.PASS), (201, Verdict.REVIEW)):
        inspection = inspector.inspect(share(0.2, 255, np.uint8, side))
        assert inspection.verdict == verdict
    assert str(inspection.reasons[0]) == "image size unlike the training images: 201×201 ≠ 64…100×64…100"
    tiled = opened(tmp_path, {"uint8": (0, 255)}, tiling=Tiling(height=64, width=64))
    assert tiled.inspect(share(0.2, 255, np.uint8, 300)).verdict == Verdict.PASS


def test_a_stream_reviews_the_one_and_decides_on_the_others(tmp_path):
    inspector = opened(tmp_path, {"uint8": (0, 255)})
    write_image(tmp_path / "a.png", share(0.2, 255, np.uint8))
    write_image(tmp_path / "b.png", share(0.2, 4095, np.uint16))
    write_image(tmp_path / "c.png", cv2.resize(share(0.9, 255, np.uint8), (80, 80)))
    found = list(inspector.inspect([tmp_path / f"{name}.png" for name in "abc"]))
    assert [inspection.verdict for inspection in found] == [Verdict.PASS, Verdict.REVIEW, Verdict.REJECT]
    assert found[1].reasons[0].detail == "uint16 ≠ uint8"


@pytest.mark.parametrize("value", [0, 255], ids=["no light", "saturated"])
def test_a_frame_without_a_picture_is_reviewed_though_its_score_would_pass(tmp_path, value):
    trained = [share(value, 255, np.uint8)[..., None] for value in (0.4, 0.5, 0.8)]
    spec = InputSpec(channels=1, height=64, width=64, pixels=make_pixel_spec(map(measure_values, trained)))
    inspector = Inspector.open(anomaly_bundle(tmp_path / "a.blemish", input=spec))
    frame = np.full((64, 64), value, np.uint8)
    frame[3, 3] = 255 - value
    inspection = inspector.inspect(frame)
    assert inspection.verdict == Verdict.REVIEW
    assert [reason.kind for reason in inspection.reasons] == [ReasonKind.RANGE]
    assert inspector.inspect(trained[2]).verdict == Verdict.REJECT


def test_a_grey_camera_in_place_of_a_colour_camera_is_reviewed(tmp_path):
    colour = np.full((64, 64, 3), 128, np.uint8)
    colour[20:40, 20:40] = (250, 200, 160)
    spec = InputSpec(channels=3, height=64, width=64, pixels=make_pixel_spec([measure_values(colour)]))
    inspector = Inspector.open(anomaly_bundle(tmp_path / "a.blemish", channels=3, input=spec))
    assert inspector.inspect(colour).verdict == Verdict.REJECT
    grey = inspector.inspect(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    assert (grey.verdict, str(grey.reasons[0])) == (
        Verdict.REVIEW, "pixel type unlike the training images: 1 × uint8 ≠ 3 × uint8",
    )  # fmt: skip


ZONED = Decision(review=0.5, reject=0.6, zones={"seal": [(0, 0), (32, 0), (32, 32), (0, 32)]})
DRAWN = {"image_height": 64, "image_width": 64, "rectangle": (8, 8, 56, 56)}


@pytest.mark.parametrize("tiling", [None, Tiling(height=32, width=32)], ids=["whole", "tiles"])
@pytest.mark.parametrize(
    ("fields", "only_size"),
    [
        ({}, False),
        ({"scale": Scale(x=4, y=4)}, True),
        ({"decision": ZONED}, True),
        ({"products": {"a": ProductDecision(decision=ZONED)}}, True),
        ({"roi": Roi(**DRAWN)}, True),
        ({"roi": Roi(blob=BlobLocator(min_area=0.001))}, True),
    ],
    ids=["nothing", "scale", "zones", "zones of a product", "drawn region", "located part"],
)
def test_where_pixels_are_places_or_mm_only_the_size_of_training_is_decided_on(tmp_path, fields, only_size, tiling):
    inspector = opened(tmp_path, {"uint8": (0, 255)}, tiling=tiling, **fields)
    own = inspector.inspect(share(0.9, 255, np.uint8))
    assert own.verdict == Verdict.REJECT
    for side in (65, 96, 128):
        other = inspector.inspect(share(0.9, 255, np.uint8, side))
        assert other.verdict == (Verdict.REVIEW if only_size else Verdict.REJECT)
        assert not only_size or str(other.reasons[0]) == (
            f"image size unlike the training images: {side}×{side} ≠ 64×64"
        )


def test_images_of_several_sizes_in_training_leave_a_range_of_sizes(tmp_path):
    inspector = opened(tmp_path, {"uint8": (0, 255)}, side=(64, 100), scale=Scale(x=4, y=4))
    assert inspector.inspect(share(0.9, 255, np.uint8, 90)).verdict == Verdict.REJECT


def test_a_scale_of_the_images_and_a_region_drawn_on_them_hold_at_their_size(tmp_path):
    opened(tmp_path, {"uint8": (0, 255)}, scale=Scale(x=4, y=4))
    path = tmp_path / "a.blemish"
    for px_per_mm, verdict in ((8.0, Verdict.REJECT), (4.0, Verdict.REVIEW)):  # 4: that of the training images
        image = share(0.9, 255, np.uint8, 128)
        assert Inspector.open(path, px_per_mm=px_per_mm).inspect(image).verdict == verdict
    drawn = Roi(image_height=128, image_width=128, rectangle=(8, 8, 120, 120))
    inspector = opened(tmp_path, {"uint8": (0, 255)}, roi=drawn)
    verdicts = [inspector.inspect(share(0.9, 255, np.uint8, side)).verdict for side in (64, 128, 96)]
    assert verdicts == [Verdict.REJECT, Verdict.REJECT, Verdict.REVIEW]


def test_an_image_smaller_than_a_tile_is_reviewed(tmp_path):
    inspector = opened(tmp_path, {"uint8": (0, 255)}, side=(300, 300), tiling=Tiling(height=64, width=64))
    for size, verdict in (((64, 64), Verdict.PASS), ((8, 8), Verdict.REVIEW), ((700, 3), Verdict.REVIEW)):
        assert inspector.inspect(np.full(size, 50, np.uint8)).verdict == verdict
