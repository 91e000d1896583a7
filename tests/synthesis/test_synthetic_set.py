"""The synthetic set: the same for a seed; its stated geometry equals measurements of its masks."""

import csv

import numpy as np
import pytest

from blemish.dataset.sample import GOOD
from blemish.errors import DataError, OptionError
from blemish.imaging.read import read_image, read_mask
from blemish.inspection.measure import measure_geometry
from blemish.synthesis.exact_shapes import EXACT_SHAPES
from blemish.synthesis.surfaces import SURFACES, render_surface
from blemish.synthesis.synthetic_set import SetSize, write_synthetic

SMALL = SetSize(train=3, test_good=2, defects=6)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    return folder, write_synthetic(folder, ("metal", "fabric"), SMALL, seed=7)


def truth(folder):
    with (folder / "ground_truth.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_contains_the_requested_images(written):
    folder, dataset = written
    assert dataset.classes == (GOOD, *sorted(EXACT_SHAPES))
    assert {s.product for s in dataset.samples} == {"metal", "fabric"}
    assert len(dataset.split("train")) == 6
    assert len(dataset.split("test")) == 2 * (2 + 6 * len(EXACT_SHAPES))
    assert len(truth(folder)) == 2 * 6 * len(EXACT_SHAPES)


def test_the_same_seed_writes_the_same_files(written, tmp_path):
    folder, _ = written
    write_synthetic(tmp_path / "again", ("metal", "fabric"), SMALL, seed=7)
    write_synthetic(tmp_path / "other", ("metal", "fabric"), SMALL, seed=8)
    files = [p.relative_to(folder) for p in sorted(folder.rglob("*.*"))]
    assert all((tmp_path / "again" / f).read_bytes() == (folder / f).read_bytes() for f in files)
    assert any((tmp_path / "other" / f).read_bytes() != (folder / f).read_bytes() for f in files)


@pytest.mark.parametrize("kind", sorted(EXACT_SHAPES))
def test_stated_geometry_equals_measurements_of_the_mask(written, kind):
    folder, _ = written
    errors = []
    for row in truth(folder):
        if row["class"] == kind:
            name = row["image"].replace("/test/", "/ground_truth/").replace(".png", "_mask.png")
            found = measure_geometry(read_mask(folder / name))
            assert found.area == float(row["area_px"])
            length = found.feret_max if kind == "blob" else found.length  # a blob's length is its largest extent
            expected = float(row["length_px"])
            errors.append(abs(length - expected) / max(1.0, 0.02 * expected))
            assert float(row["length_mm"]) == pytest.approx(float(row["length_px"]) / 10, abs=1e-3)
            if kind in ("scratch", "crack"):
                assert found.mean_width == pytest.approx(float(row["width_px"]), abs=1)
    assert np.median(errors) < 1, errors  # in units of 1 px or 2 %


def test_defects_are_visible_where_the_mask_is(written):
    for sample in written[1].split("test").samples:
        if sample.defective:
            image, mask = read_image(sample.image)[..., 0].astype(float), read_mask(sample.mask)
            assert abs(image[mask].mean() - image[~mask].mean()) > 5


def test_never_writes_into_a_folder_in_use(written):
    with pytest.raises(DataError, match="is not empty"):
        write_synthetic(written[0])


@pytest.mark.parametrize("name", SURFACES)
def test_every_good_surface_is_different(name):
    rng = np.random.default_rng(0)
    one, two = render_surface(name, rng, 128), render_surface(name, rng, 128)
    assert one.shape == (128, 128)
    assert 0 <= one.min() < one.max() <= 1
    assert np.abs(one - two).mean() > 0.01


@pytest.mark.parametrize(
    ("names", "words"), [(("metal", "cheese"), "choose from metal, fabric"), ((), "name a surface: metal")]
)
def test_unknown_surface_names_the_known_ones_before_anything_is_written(names, words, tmp_path):
    with pytest.raises(OptionError, match=words):
        write_synthetic(tmp_path / "set", names, SMALL)
    assert not (tmp_path / "set").exists()
