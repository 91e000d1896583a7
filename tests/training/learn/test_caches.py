"""Images that are read once and features that are computed once change nothing but the time."""

import numpy as np
import pytest
import torch

from blemish.inspection.manifest import InputSpec, Tiling
from blemish.methods.catalogue import method_class
from blemish.methods.common.blocks import FrozenNetwork
from blemish.synthesis.scene import PartMask
from blemish.training.learn import data as learn_data
from blemish.training.learn.data import ImageItems, View
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.run import RunConfig

VIEW = View(InputSpec(channels=3, height=48, width=48))
QUICK = {"backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 8}


def same(a, b):
    if isinstance(a, PartMask):
        return a.extent == b.extent and np.array_equal(a.mask, b.mask)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and np.array_equal(a, b)


@pytest.fixture
def reads(monkeypatch):
    """Paths of the images that were read."""
    paths, read = [], learn_data.read_image
    monkeypatch.setattr(learn_data, "read_image", lambda path: paths.append(path) or read(path))
    return paths


@pytest.mark.parametrize(
    ("annotations", "tiling", "with_part"),
    [
        ((), None, False),
        (("label", "mask"), None, False),
        (("label", "mask", "boxes"), None, False),
        (("boxes",), Tiling(height=40, width=40), False),
        (("mask",), None, True),
    ],
)
def test_cached_items_are_those_that_were_read(annotations, tiling, with_part, tiny_data, reads):
    view = View(VIEW.input, tiling=tiling)
    items = ImageItems(
        tiny_data.dataset(("mask",)), view, ("good", "scratch", "pit"), annotations=annotations, with_part=with_part
    )
    plain = [items[i] for i in range(len(items))]
    assert 0 < items.cache_within(2**30) < 2**30
    first = [items[i] for i in range(len(items))]
    reads.clear()
    second = [items[i] for i in range(len(items))]
    assert reads == []
    for once, again, more in zip(plain, first, second, strict=True):
        assert once.keys() == again.keys() == more.keys()
        for key, value in once.items():
            assert same(value, again[key]), key
            assert same(value, more[key]), key


def test_a_change_to_an_item_does_not_reach_the_cache(tiny_data):
    items = ImageItems(tiny_data.dataset(("good",)), VIEW, ("good", "defect"))
    items.cache_within(2**30)
    before = items[0]["image"].clone()
    items[0]["image"].zero_()
    items[0]["valid"].zero_()
    assert torch.equal(items[0]["image"], before)


def test_no_more_is_kept_than_the_budget_holds(tiny_data, reads):
    items = ImageItems(tiny_data.dataset(("good",)), VIEW, ("good", "defect"))
    whole = items.cache_within(2**30)
    held = items.cache_within(whole // 2)
    assert held <= whole // 2
    for i in range(len(items)):
        items[i]
    reads.clear()
    for i in range(len(items)):
        items[i]
    assert len(reads) == len(items) - held * len(items) // whole
    assert items.cache_within(10) == 0
    assert items[0]["image"].shape == (3, 48, 48)


def test_without_room_for_the_file_items_are_read_as_before(tiny_data, monkeypatch, caplog):
    def full(*file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("blemish.training.learn.item_cache.os.posix_fallocate", full)
    items = ImageItems(tiny_data.dataset(("good",)), VIEW, ("good", "defect"))
    assert items.cache_within(2**30) == 0
    assert "No space left" in caplog.text
    assert torch.equal(items[0]["image"], items[0]["image"])


def test_a_loader_with_processes_gives_the_same_batches(tiny_data):
    items = ImageItems(tiny_data.dataset(("good",)), VIEW, ("good", "defect"))
    plain = [items[i]["image"] for i in range(len(items))]
    items.cache_within(2**30)
    batches = learn_data.loader(items, 5, shuffle=False, workers=2, seed=0)
    for _ in range(2):
        assert torch.equal(torch.cat([batch["image"] for batch in batches]), torch.stack(plain))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stfpm", {"strides": [4, 8]}),
        ("fastflow", {"strides": [4, 8], "flow_steps": 2}),
        ("reverse-distillation", {"strides": [4, 8], "width": 32}),
        ("supersimplenet", {"strides": [4, 8], "width": 16}),
    ],
)
def test_features_that_are_computed_once_lead_to_the_same_weights(name, options, tiny_data, tmp_path, monkeypatch):
    kind, counted = method_class(name), []
    steps = 8
    data = tiny_data.dataset(kind.info.requires)

    def train(cache_mb):
        counted.clear()
        config = RunConfig(
            blemish="0",
            data="",
            method=name,
            options=kind.Options(**QUICK, **options, steps=steps).model_dump(mode="json"),
            trainer={"accelerator": "cpu"},
            cache_mb=cache_mb,
        )
        method = build_method(config, data)
        for frozen in (module for module in method.modules() if isinstance(module, FrozenNetwork)):
            frozen.network.register_forward_hook(lambda network, images, maps: counted.append(len(images[0])))
        fit(method, data, config, run=tmp_path / f"run-{cache_mb}", validates=False)
        assert all(m.cache is None for m in method.modules() if isinstance(m, FrozenNetwork))
        return method.state_dict(), sum(counted)

    (plain, without), (cached, within) = train(0), train(64)
    training = len(data.split("train").where(lambda s: s.defective is False))
    assert within == training
    assert without >= (steps - 1) * QUICK["batch_size"] // 2 > within
    for key, value in plain.items():
        torch.testing.assert_close(cached[key], value, rtol=1e-4, atol=1e-6)


def test_features_of_mirrored_images_are_not_kept(tiny_data, tmp_path):
    """SuperSimpleNet mirrors defective images: these have no number."""
    kind = method_class("supersimplenet")
    data = tiny_data.dataset(("mask",))
    config = RunConfig(
        blemish="0", data="", method="supersimplenet", options=kind.Options(**QUICK, steps=1).model_dump(mode="json")
    )
    method = build_method(config, data)
    items = ImageItems(data.split("train"), VIEW, method.classes, transform=method.train_transform())
    items.numbered = True
    torch.manual_seed(0)
    for i in [*range(len(items))] * 4:
        item, original = items[i], items._read(i)
        same_pixels = torch.equal(item["image"], original["image"])
        assert item["number"] in ((i, -1) if same_pixels else (-1,))
        assert item["number"] == i or item["defective"] == 1
