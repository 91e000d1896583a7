"""What is measured of the training images before a training, and images that nothing can be learnt from."""

import shutil

import numpy as np
import pytest
import tifffile

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.imaging.read import write_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.result import ReasonKind, Verdict
from blemish.methods.catalogue import method_class
from blemish.training.learn.prepare import check_good_images_differ, check_trainable, explain_squeeze, measure_pixels
from blemish.training.learn.run import read_config
from blemish.training.train import train


def noise(seed, top, size=(40, 48)):
    return np.random.default_rng(seed).integers(0, top + 1, size).astype(np.uint16)


def dataset(*samples):
    return Dataset(samples, samples[0].image.parent, "csv")


def test_pixels_are_those_of_training_and_validation_images(tmp_path):
    samples = []
    for name, split, top, size in (
        ("a", "train", 4095, (40, 48)),
        ("b", "val", 900, (60, 48)),
        ("c", "test", 65535, (9, 9)),
    ):
        write_image(tmp_path / f"{name}.png", noise(3, top, size))
        samples.append(Sample(tmp_path / f"{name}.png", "good", split))
    write_image(tmp_path / "d.png", noise(3, 255).astype(np.uint8))
    (tmp_path / "e.png").write_bytes(b"no image")
    samples += [Sample(tmp_path / "d.png", "good", "train"), Sample(tmp_path / "e.png", "good", "train")]
    spec = measure_pixels(dataset(*samples))
    assert spec.ranges == {"uint16": (0, 4095), "uint8": (0, 255)}
    assert (spec.height, spec.width) == ((40, 60), (48, 48))
    assert measure_pixels(dataset(samples[-1])) is None


def test_8_bit_images_are_measured_too(tmp_path):
    pictures = [noise(i, 200).astype(np.uint8) for i in range(3)]
    samples = []
    for i, picture in enumerate(pictures):
        write_image(tmp_path / f"{i}.png", np.dstack([picture] * 3) if i else picture)
        samples.append(Sample(tmp_path / f"{i}.png", "good", "train"))
    spec = measure_pixels(dataset(*samples))
    deviations, means = [picture.std() for picture in pictures], [picture.mean() for picture in pictures]
    assert spec.deviations["uint8"] == pytest.approx((min(deviations), max(deviations)))
    assert spec.means["uint8"] == pytest.approx((min(means), max(means)))
    assert (spec.channels, spec.aspect) == ((1,), (48 / 40, 48 / 40))


def test_reference_images_are_measured_with_the_images(tmp_path):
    write_image(tmp_path / "a.png", noise(0, 4095))
    write_image(tmp_path / "t.png", noise(1, 255).astype(np.uint8))
    spec = measure_pixels(dataset(Sample(tmp_path / "a.png", "good", "train", template=tmp_path / "t.png")))
    assert spec.ranges == {"uint16": (0, 4095), "uint8": (0, 255)}


def test_good_images_that_are_all_the_same_are_refused_by_name(tmp_path):
    samples = []
    for i in range(3):
        write_image(tmp_path / f"{i}.png", noise(0, 255))
        samples.append(Sample(tmp_path / f"{i}.png", "good"))
    with pytest.raises(DataError, match=r"the 3 good images are all identical, such as .*0\.png and .*1\.png"):
        check_good_images_differ(dataset(*samples))
    write_image(tmp_path / "3.png", noise(1, 255))
    check_good_images_differ(dataset(*samples, Sample(tmp_path / "3.png", "good")))
    check_good_images_differ(dataset(samples[0], Sample(tmp_path / "3.png", "pit")))


@pytest.mark.parametrize("kind", ["12 bits in 16", "heights around 0", "int16", "one value in float"])
def test_a_run_records_the_range_and_its_bundle_scales_by_it(tmp_path, kind):
    def picture(i):
        values = noise(i, 4095)
        values[0, :2] = 0, 4095
        if kind == "one value in float":
            return np.full((40, 48), 0.5, np.float32)
        height = values.astype(np.float32) / 4095 - 0.5
        return {
            "12 bits in 16": values,
            "heights around 0": 0.02 * height,
            "int16": (values - 2000.0).astype(np.int16),
        }[kind]

    for i in range(6):
        path = tmp_path / "data" / ("good" if i < 5 else "pit") / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, picture(i), description=str(i))
    options = {"backbone": "test_resnet", "weights": "random", "image_size": 32}
    run = train(
        tmp_path / "data", out=tmp_path / "run", method="padim", options=options, progress=False, calibration="held-out"
    )
    inspector = Inspector.open(run)
    spec = inspector.manifest.input.pixels
    assert spec == read_config(run).pixels
    expected = {
        "12 bits in 16": {"uint16": (0, 4095)},
        "heights around 0": {"float32": (-0.015, 0.015)},
        "int16": {"float32": (-2000 - 4095 / 4, 2095 + 4095 / 4)},
        "one value in float": {"float32": (0, 1)},
    }[kind]
    assert {name: pytest.approx(own, rel=1e-5) for name, own in expected.items()} == spec.ranges
    batch = inspector.prepare(tmp_path / "data" / "pit" / "5.tif")
    assert batch.mean() == pytest.approx(0.5, abs=0.02)
    write_image(tmp_path / "8 bit.png", (noise(0, 255)).astype(np.uint8))
    other = inspector.inspect(tmp_path / "8 bit.png")
    assert (other.verdict, other.reasons[0].kind) == (Verdict.REVIEW, ReasonKind.DEPTH)
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("size", "settings", "words"),
    [
        ((40, 130), {}, "3.2 times"),
        ((130, 40), {"fit": "stretch"}, "--tile 40"),
        ((40, 70), {}, None),
        ((40, 130), {"fit": "letterbox"}, None),
        ((40, 130), {"tiling": {"height": 40, "width": 40}}, None),
        ((40, 130), {"roi": {"part": "auto"}}, None),
    ],
)
def test_long_images_are_not_squeezed_in_silence(tmp_path, size, settings, words):
    write_image(tmp_path / "a.png", noise(0, 200, size))
    line = explain_squeeze(dataset(Sample(tmp_path / "a.png", "good", "train")), settings)
    assert line is None if words is None else words in line


def test_a_cascade_needs_two_kinds_of_defects_before_anything_is_trained(tiny_data):
    data, kind = tiny_data.dataset(("label",)), method_class("cascade")
    check_trainable(data, kind, tiled=False, synthetic=False)
    one = data.where(lambda s: s.label in ("good", "pit"))
    for tiled in (False, True):
        with pytest.raises(DataError, match="cascade tells 2 or more classes of defects apart, and training has pit"):
            check_trainable(one, kind, tiled=tiled, synthetic=False)
    check_trainable(one, kind, tiled=False, synthetic=True)  # which may add one
