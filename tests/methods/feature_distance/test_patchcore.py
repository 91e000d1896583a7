"""The size of PatchCore's bank, rotated views, and the weight of colours."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.catalogue import method_class
from blemish.methods.common.blocks import patch_features
from blemish.methods.common.local_colour import local_colour
from blemish.methods.feature_distance import patchcore
from blemish.training.ship.export import export_graph

CLASSES = ("good", "defect")


@pytest.mark.parametrize(("patches", "kept"), [(512, 512), (3000, 2000), (300_000, 3000)])
def test_bank_keeps_a_minimum_of_patches_of_few_images(patches, kept):
    """One in a hundred is for hundreds of images; of two it would leave five patches."""
    method = patchcore.PatchCore(
        patchcore.PatchCoreOptions(image_size=64, weights="random", backbone="test_resnet"), ()
    )
    assert min(patches, method._bank_size(patches)) == kept


SMALL_VIT = {"backbone": "vit_tiny_patch16_224", "weights": "random", "image_size": 64}


@pytest.mark.parametrize("name", ["patchcore", "anomaly-dino"])
@pytest.mark.parametrize("rotations", [1, 4])
def test_a_bank_of_rotated_images_matches_a_rotated_part(name, rotations):
    torch.manual_seed(0)
    own = {"coreset_ratio": 1.0, "image_size": 64} if name == "patchcore" else SMALL_VIT
    kind = method_class(name)
    method = kind(kind.Options(**own, rotations=rotations), CLASSES).eval()
    image, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :16] = False
    with torch.inference_mode():
        method.training_step({"image": image, "valid": valid}, 0)
        method.finish()
        straight, across = (float(method(x)["anomaly_map"].amin()) for x in (image, image.rot90(1, (2, 3))))
    assert straight == pytest.approx(0, abs=1e-3)
    assert (across < 1e-3) == (rotations == 4)
    locations = int(valid[:, 8::16, 8::16].sum()) if name == "anomaly-dino" else int(valid[:, 4::8, 4::8].sum())
    assert len(method.bank) == rotations * locations


def fitted(images: torch.Tensor, **options: float) -> patchcore.PatchCore:
    """PatchCore with random features, fitted on square (N, C, H, H) images; all patches are kept."""
    torch.manual_seed(0)
    kind = patchcore.PatchCoreOptions(
        image_size=images.shape[-1],
        weights="random",
        backbone="test_resnet",
        strides=(8,),
        **{"coreset_ratio": 1.0, **options},
    )
    method = patchcore.PatchCore(kind, CLASSES, images.shape[1]).eval()
    batch = {"image": images, "valid": torch.ones(images[:, 0].shape, dtype=torch.bool)}
    with torch.inference_mode():
        method.training_step(batch, 0)
        method.finish()
    method.after_training([batch])
    return method


def test_colours_are_weighed_by_good_maxima_without_what_the_bank_holds_of_the_image_itself():
    torch.manual_seed(1)
    images = torch.rand(8, 3, 64, 64) * torch.linspace(0.3, 1, 8).view(8, 1, 1, 1)
    method = fitted(images, colour=0.7)
    maxima = []
    with torch.inference_mode():
        maps = method.features(images), local_colour(images, (8, 8))
    for own, bank in zip(maps, (method.bank, method.colour_bank), strict=True):
        vectors = own.flatten(2).transpose(1, 2)
        assert len(bank) == 8 * 64  # all are kept, so that those of others are simply the other images'
        for number, image in enumerate(vectors):
            others = torch.cat([v for n, v in enumerate(vectors) if n != number])
            maxima.append(torch.cdist(image.double(), others.double()).amin(dim=1).amax())
    deep, colours = torch.stack(maxima).view(2, 8)
    unit = float(((colours**2 + patchcore.ROUNDING**2) ** 0.5).std())
    assert float(method.colour_weight) == pytest.approx(0.7 * float(deep.std()) / unit, rel=1e-3)


def test_a_stain_that_features_do_not_see_stands_out_by_its_colour(monkeypatch):
    """Features of the brightness alone are blind to a stain as bright as its surroundings."""
    monkeypatch.setattr(
        patchcore.PatchCore,
        "features",
        lambda self, x: patch_features([F.avg_pool2d(x.mean(1, True), 8)]).repeat(1, 64, 1, 1),
    )
    torch.manual_seed(0)
    images = 0.5 + 0.05 * torch.randn(12, 1, 64, 64).expand(12, 3, 64, 64) + 0.01 * torch.randn(12, 3, 64, 64)
    stained = images[-1:].clone()
    stained[:, 0, 24:40, 24:40] += 0.1
    stained[:, 1, 24:40, 24:40] -= 0.1
    contrast = {}
    for weight in (0.0, 0.3):
        method = fitted(images[:-2], colour=weight)
        with torch.inference_mode():
            good, found = (method(x) for x in (images[-2:-1], stained))
        contrast[weight] = float(found["anomaly_score"] / good["anomaly_score"])
        peak = int(found["anomaly_map"].argmax())
        assert weight == 0 or (24 <= peak // 64 < 40 and 24 <= peak % 64 < 40)
    assert contrast[0.3] > 2 > contrast[0.0]


def test_colours_have_no_weight_without_enough_good_images(caplog):
    caplog.set_level("INFO")
    method = fitted(torch.rand(4, 3, 64, 64), colour=0.3)
    assert float(method.colour_weight) == 0
    assert "colours do not count" in caplog.text


def test_without_colours_the_method_has_nothing_of_them():
    assert not any("colour" in name for name in fitted(torch.rand(8, 3, 64, 64)).state_dict())


def test_a_bank_of_colours_is_a_subset_of_those_seen(monkeypatch):
    torch.manual_seed(2)
    images = torch.rand(8, 3, 64, 64)
    whole = fitted(images, colour=0.3)
    monkeypatch.setattr(patchcore, "COLOUR_BANK", 200)
    condensed = fitted(images, colour=0.3)
    assert (len(whole.colour_bank), len(condensed.colour_bank)) == (8 * 64, 200)
    assert set(map(tuple, condensed.colour_bank.tolist())) <= set(map(tuple, whole.colour_bank.tolist()))


def test_colours_that_never_vary_count_by_the_rounding_of_images():
    grey = torch.rand(8, 1, 1, 1).expand(8, 1, 64, 64).clone()  # even images: a brightness of its own is no colour
    method = fitted(grey, colour=0.3)
    with torch.inference_mode():
        deep = torch.tensor([patchcore.farthest(own.flatten(1).T, method.bank) for own in method.features(grey)])
    assert float(method.colour_weight) == pytest.approx(0.3 * float(deep.std()) / patchcore.ROUNDING)


def test_what_lies_below_the_rounding_of_images_is_no_difference_of_colours():
    distances = torch.tensor([0.0, 1e-4, 0.1])
    found = patchcore.nearest_colour(distances[:, None].repeat(1, 4) / 2, torch.zeros(1, 4))
    assert found[0] == 0
    assert found[1] < 0.1 * distances[1]
    assert found[2] == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(("channels", "side"), [(1, 64), (3, 100), (5, 64), (3, 512)])
def test_the_graph_weighs_colours_as_the_network_does(channels, side):
    torch.manual_seed(1)
    method = fitted(torch.rand(7, channels, side, side), colour=0.3, coreset_ratio=0.01)
    assert float(method.colour_weight) > 0
    seen = torch.rand(3, channels, side, side) ** 2
    with torch.inference_mode():
        expected = method(seen)
    graph = export_graph(method, InputSpec(channels=channels, height=side, width=side))
    shipped = open_engine(graph).run(seen.numpy())
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(shipped, name), values, rtol=1e-3, atol=1e-3 * float(values.abs().max()))
