"""Synthetic defects in the data loader: the annotations of an item after the synthesis."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.dataset.write import write_csv
from blemish.errors import DataError, OptionError
from blemish.imaging.read import write_image
from blemish.inspection.bundle import open_bundle
from blemish.inspection.manifest import InputSpec, Tiling
from blemish.methods.catalogue import method_class
from blemish.synthesis.defect_spec import parse_defect_spec
from blemish.training.learn import fit as fitting
from blemish.training.learn import fit_data
from blemish.training.learn.data import ImageItems, View, collate
from blemish.training.learn.run import RunConfig
from blemish.training.learn.synthetic import (
    Synthesiser,
    check_defect_spec,
    classes_with_synthetic,
    make_synthesis,
    with_synthetic_labels,
)
from blemish.training.train import train

CLASSES = ("good", "pit", "scratch")
TRUTH = ("label", "mask", "boxes")


@pytest.fixture
def dataset(tiny_data):
    return read_dataset(tiny_data.folder / "labelled.csv").split("train")


@pytest.fixture
def items(dataset):
    return ImageItems(dataset, View(InputSpec(height=64, width=64)), CLASSES, annotations=TRUTH)


def first_good(items):
    return next(items[i] for i, s in enumerate(items.samples) if s.label == "good")


def first_defective(items):
    return next(items[i] for i, s in enumerate(items.samples) if s.label == "scratch")


def test_all_truth_of_an_item_agrees(items):
    spec = parse_defect_spec({"steps": [{"kind": "scratch"}, {"kind": "pit", "count": [2, 2]}], "share": 1.0})
    torch.manual_seed(0)
    item = first_good(items)
    before = item["image"].clone()
    made = Synthesiser(spec, CLASSES, [])(item)
    assert torch.equal(item["image"], before)
    assert CLASSES[made["label"]] in ("scratch", "pit")
    assert (item["defective"], made["defective"]) == (0, 1)
    assert torch.equal(made["mask"], made["mask_labels"] > 0)
    assert torch.equal(made["mask"], made["box_masks"].any(dim=0))
    assert (made["image"] - before).abs().sum(dim=0)[made["mask"]].mean() > 0.05
    for box, mask in zip(made["boxes"], made["box_masks"], strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert box[:4].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (made["mask_labels"][mask] == 1 + box[4].long()).all()
    assert collate([made, item])["image"].shape == (2, 3, 64, 64)


def test_share_of_good_images_and_no_defective_ones(items):
    spec = parse_defect_spec({"steps": [{"kind": "pit"}], "share": 0.3})
    synthesise = Synthesiser(spec, CLASSES, [])
    torch.manual_seed(1)
    good, defective = first_good(items), first_defective(items)
    changed = np.mean([synthesise(good)["label"] != 0 for _ in range(200)])
    assert changed == pytest.approx(0.3, abs=0.1)
    assert synthesise(defective) is defective


def test_geometric_steps_move_the_truth_of_every_image(items):
    spec = parse_defect_spec([{"kind": "affine", "turn": [90, 90], "shift": [0, 0], "scale": [1, 1], "shear": [0, 0]}])
    item = first_defective(items)
    made = Synthesiser(spec, CLASSES, [])(item)
    assert torch.equal(made["mask"], torch.rot90(item["mask"], -1))
    assert torch.equal(made["mask_labels"], torch.rot90(item["mask_labels"], -1))
    assert torch.allclose(made["image"], torch.rot90(item["image"], -1, (1, 2)), atol=1e-4)
    x0, y0, x1, y1, number = item["boxes"][0].tolist()
    assert made["boxes"][0].tolist() == [64 - y1, x0, 64 - y0, x1, number]


def test_what_comes_in_from_outside_does_not_count_and_adds_to_no_box(items):
    spec = parse_defect_spec(
        [{"kind": "affine", "turn": [0, 0], "shift": [0.25, 0.25], "scale": [1, 1], "shear": [0, 0]}]
    )
    item = first_defective(items)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[8:16, 4:20] = True
    item |= {
        "mask": mask,
        "mask_labels": 2 * mask,
        "box_masks": mask[None],
        "boxes": torch.tensor([[4, 8, 20, 16, 1.0]]),
    }
    made = Synthesiser(spec, CLASSES, [])(item)
    assert made["boxes"].tolist() == [[20, 24, 36, 32, 1]]
    assert torch.equal(made["mask"], torch.roll(mask, (16, 16), (0, 1)))
    assert made["valid"].sum() == 48 * 48
    assert made["valid"][16:, 16:].all()


def test_real_defects_are_pasted_in_the_networks_geometry(dataset):
    view = View(InputSpec(height=48, width=80))
    spec = parse_defect_spec({"steps": [{"kind": "paste"}], "share": 1.0})
    transform = make_synthesis(spec, dataset, view, CLASSES, None)
    assert {c.label for c in transform.cutouts} == {"pit", "scratch"}
    assert len(transform.cutouts) == sum(bool(s.defective) for s in dataset.samples)
    torch.manual_seed(0)
    made = transform(first_good(ImageItems(dataset, view, CLASSES, annotations=("mask",))))
    assert made["mask"].any()


@pytest.mark.parametrize(
    ("step", "fits"),
    [
        ({"kind": "scratch"}, True),
        ({"kind": "scratch", "p": 0.001}, True),  # rare, but it can be synthetic_items
        ({"kind": "scratch", "strength": [0.0, 0.0]}, False),
        ({"kind": "overlay", "area": [0.98, 0.99]}, False),  # no such patch
        ({"kind": "light"}, True),  # nothing to fit
    ],
)
def test_a_spec_whose_defects_fit_nowhere_is_refused_before_learning(step, fits, dataset):
    spec = parse_defect_spec([{"label": "pit", **step} if step["kind"] != "light" else step])
    with nullcontext() if fits else pytest.raises(DataError, match="64 px wide"):
        make_synthesis(spec, dataset, View(InputSpec(height=64, width=64)), CLASSES, None)


def test_tiles_outside_the_region_of_interest_say_nothing_of_a_spec(dataset, tmp_path):
    half = np.zeros((64, 64, 1), np.uint8)
    half[40:] = 255  # of the many tiles of an image just those of the lower rows count
    write_image(tmp_path / "roi.png", half)
    placed = dataset.with_samples(replace(s, roi=tmp_path / "roi.png") for s in dataset.samples)
    view = View(InputSpec(height=16, width=16), tiling=Tiling(height=16, width=16, overlap=0.75))
    for step in ({"kind": "pit", "length": [0.3, 0.5]}, {"kind": "paste"}):
        make_synthesis(parse_defect_spec([{"label": "pit", **step}]), placed, view, CLASSES, None)


def test_real_defects_are_pasted_for_a_classifier_of_tiles_too(dataset, tmp_path):
    """Its windows have labels only; pasted defects come from the whole images, which have masks."""
    options = {"image_size": 32, "backbone": "test_resnet", "weights": "random", "flips": False}
    tiling, spec = {"height": 32, "width": 32, "overlap": 0.0}, {"steps": [{"kind": "paste"}], "share": 0.5}
    config = RunConfig(
        blemish="0", data="", method="feature-classifier", tiling=tiling, synthetic=spec,
        options=method_class("feature-classifier").Options(**options).model_dump(mode="json"),
    )  # fmt: skip
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_data, "make_synthesis", lambda *a: kept.append(make_synthesis(*a)) or kept[0])
        fitting.fit(fitting.build_method(config, dataset), dataset, config, run=tmp_path / "run")
    assert {c.label for c in kept[0].cutouts} == {"pit", "scratch"}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_class_that_is_never_synthetic_is_one_line(share, dataset, tmp_path):
    options = {"image_size": 32, "backbone": "test_resnet", "weights": "random", "flips": False}
    write_csv(dataset, tmp_path / "list.csv")
    spec = {"steps": [{"kind": "dent"}, {"kind": "pit", "p": 0.0}], "share": share}
    learn = partial(train, tmp_path / "list.csv", out=tmp_path / "run", method="feature-classifier", progress=False,
                    options=options, synthetic=spec)  # fmt: skip
    if share:
        learn()
    else:
        with pytest.raises(DataError, match="dent: fewer than 2 images"):
            learn()


def test_same_seed_same_item(items):
    spec = parse_defect_spec({"steps": [{"kind": "scratch"}], "share": 1.0})
    pictures = []
    for _ in range(2):
        torch.manual_seed(7)
        pictures.append(Synthesiser(spec, CLASSES, [])(first_good(items))["image"])
    assert torch.equal(*pictures)


def test_classes_of_spec_and_data(dataset):
    spec = parse_defect_spec([{"kind": "dent"}, {"kind": "scratch"}])
    assert classes_with_synthetic(spec, dataset) == ("good", "dent", "pit", "scratch")
    good = dataset.where(lambda s: s.label == "good")
    assert classes_with_synthetic(spec, good) == ("good", "dent", "scratch")
    assert classes_with_synthetic(None, dataset) == CLASSES
    with pytest.raises(OptionError, match="dent"):
        Synthesiser(spec, CLASSES, [])


def test_what_cannot_use_a_spec_says_so(dataset):
    spec, paste = parse_defect_spec([{"kind": "dent"}]), parse_defect_spec([{"kind": "paste"}])
    with pytest.raises(OptionError, match="good images alone"):
        check_defect_spec(spec, dataset, method_class("patchcore"))
    with pytest.raises(DataError, match="good"):
        check_defect_spec(spec, dataset.where(lambda s: bool(s.defective)), method_class("unet"))
    with pytest.raises(DataError, match="pastes"):
        check_defect_spec(paste, dataset.where(lambda s: s.label == "good"), method_class("unet"))
    ghost = parse_defect_spec([{"kind": "paste", "classes": ["ghost"]}])
    with pytest.raises(OptionError, match=r"defects of ghost.* there are masks of pit, scratch"):
        check_defect_spec(ghost, dataset, method_class("unet"))
    with pytest.raises(OptionError, match="makes no defect"):
        check_defect_spec(
            parse_defect_spec([{"kind": "light"}]), dataset.where(lambda s: s.label == "good"), method_class("unet")
        )
    dent = parse_defect_spec([{"kind": "dent"}])
    with pytest.raises(OptionError, match="none are there of dent: give the step the label"):
        check_defect_spec(dent, dataset, method_class("prototypical"))
    check_defect_spec(parse_defect_spec([{"kind": "dent", "label": "pit"}]), dataset, method_class("prototypical"))


def test_classes_that_are_synthetic_alone_are_counted(dataset):
    spec = parse_defect_spec({"steps": [{"kind": "dent"}, {"kind": "scratch"}], "share": 0.5})
    counted = with_synthetic_labels(spec, dataset)
    good = sum(s.label == "good" for s in dataset.samples)
    assert sum(s.label == "dent" for s in counted.samples) == round(good / 4)
    assert len(with_synthetic_labels(parse_defect_spec([{"kind": "blur"}]), dataset)) == len(dataset)


def test_counting_sees_the_classes_that_can_be_pasted(dataset):
    def counts(samples, **step):
        counted = with_synthetic_labels(parse_defect_spec([{"kind": "paste", **step}]), dataset.with_samples(samples))
        return {name: sum(s.label == name for s in counted.samples) for name in CLASSES}

    plain = {name: sum(s.label == name for s in dataset.samples) for name in CLASSES}
    half = round(plain["good"] / 4)  # a half of the good images, shared by two classes
    assert counts(dataset.samples) == {**plain, "pit": plain["pit"] + half, "scratch": plain["scratch"] + half}
    assert counts(dataset.samples, classes=["pit"])["scratch"] == plain["scratch"]
    unmarked = [replace(s, mask=None, boxes=None) if s.label == "pit" else s for s in dataset.samples]
    assert counts(unmarked)["pit"] == plain["pit"]
    assert counts(unmarked)["scratch"] > plain["scratch"]


@pytest.mark.parametrize("method", ["classifier", "unet"])
def test_learning_from_synthetic_defects_alone(method, tiny_data, tmp_path):
    options = {
        "classifier": {"backbone": "compact", "epochs": 1},
        "unet": {"backbone": "test_resnet", "weights": "random", "steps": 3, "width": 8},
    }[method]
    spec = {"steps": [{"kind": "scratch"}], "share": 0.8}
    run = train(
        tiny_data.folder / "mvtec", out=tmp_path / "run", method=method, options={"image_size": 64, **options},
        synthetic=spec, progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    assert open_bundle(run).manifest.classes[:1] == ["good"]
    assert "scratch" in open_bundle(run).manifest.classes


def test_in_tiles_defects_lie_on_the_part_and_are_as_large_as_on_the_whole(tmp_path):
    """A bright disc on black: a tile of pure black shows no part, and lengths are shares of the disc's width."""
    image = np.zeros((256, 256, 1), np.uint8)
    cv2.circle(image, (128, 128), 90, 170, -1)
    write_image(tmp_path / "disc.png", image)
    good = Dataset((Sample(tmp_path / "disc.png", GOOD, "train"),), tmp_path, "csv")
    tiled = View(InputSpec(channels=1, height=64, width=64), None, Tiling(height=64, width=64, overlap=0.0))
    spec = parse_defect_spec(
        {"steps": [{"kind": "pit", "length": 0.1, "width": 1, "strength": [0.8, 0.8]}], "share": 1}
    )
    spec = spec.model_copy(update={"steps": (spec.steps[0].model_copy(update={"label": "pit"}),)})
    synthetic_items = ImageItems(
        good, tiled, (GOOD, "pit"), make_synthesis(spec, good, tiled, (GOOD, "pit"), None), {"mask"}, None, True
    )
    torch.manual_seed(0)
    disc = image[..., 0] > 0
    sides = []
    for _ in range(4):
        for index, item in enumerate(synthetic_items):
            assert "part" not in item
            row, column = divmod(index, 4)
            own = disc[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
            mask = item["mask"].numpy()
            assert not (mask & ~own).any()
            if mask.any():
                sides.append(float(np.sqrt(mask.sum())))
    assert len(sides) > 20
    # A pit's outline is ragged; its side is some 0.1 of the disc's 180 px, not of the tile's 64.
    assert 9 < np.median(sides) < 20
