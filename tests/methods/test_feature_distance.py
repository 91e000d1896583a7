"""What is peculiar to the methods that measure distances of features."""

import numpy as np
import pytest
import torch

from blemish.errors import DataError, OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.common.losses import contrastive_loss, hard_feature_loss, masked_mean, squared_unit_distance
from blemish.methods.common.textures import AuxiliaryImages, textures
from blemish.methods.feature_distance.efficientad import EfficientAD, EfficientADOptions, channel_statistics, jitter
from blemish.methods.feature_distance.pdn import RECEPTIVE_FIELD, autoencoder, pdn, pdn_size
from blemish.methods.feature_distance.siamese import Siamese, SiameseOptions, inside, without_edge
from blemish.methods.feature_distance.spade import Spade, SpadeOptions
from blemish.methods.feature_distance.stfpm import STFPM, STFPMOptions
from blemish.methods.feature_distance.vit import LinearAttention, check_side, loose_cosine_loss

CLASSES = ("good", "defect")


@pytest.mark.parametrize("size", ["s", "m"])
def test_pdn_sees_just_its_receptive_field(size):
    torch.manual_seed(0)
    network = pdn(size, 3, 8, width=0.1)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    output = network(image)
    assert output.shape[-1] == pdn_size(64)
    output[0, :, 3, 4].abs().sum().backward()
    touched = (image.grad[0].abs().sum(dim=0) > 0).nonzero()
    (top, left), (bottom, right) = touched.amin(dim=0).tolist(), touched.amax(dim=0).tolist()
    assert (top, left) == (4 * 3, 4 * 4)  # a place each 4 px, no padding
    assert bottom - top + 1 == right - left + 1 == RECEPTIVE_FIELD


def test_pdn_and_autoencoder_have_the_papers_sizes():
    assert pdn_size(256) == 56
    small = pdn("s", 3, 384)
    assert [m.out_channels for m in small if isinstance(m, torch.nn.Conv2d)] == [128, 256, 256, 384]
    medium = pdn("m", 3, 384)
    assert [m.out_channels for m in medium if isinstance(m, torch.nn.Conv2d)] == [256, 512, 512, 512, 384, 384]
    network = autoencoder(3, 384, 256)
    with torch.inference_mode():
        image = torch.rand(1, 3, 256, 256)
        for name, module in network.named_children():
            image = module(image)
            if name == "bottleneck":
                assert image.shape == (1, 64, 1, 1)
    assert image.shape == (1, 384, 56, 56)


@pytest.fixture(scope="module")
def efficientad():
    torch.manual_seed(0)
    method = EfficientAD(EfficientADOptions(image_size=64, width=0.1), CLASSES)
    method.teacher_deviation.fill_(1.0)
    return method.eval()


def test_efficientad_scales_its_maps_by_the_quantiles_of_good_images(efficientad):
    images = torch.rand(12, 3, 64, 64)
    efficientad.after_training([{"image": part} for part in images.split(4)])
    with torch.inference_mode():
        for found, maps in zip(efficientad.quantiles, efficientad.maps(images), strict=True):
            expected = torch.quantile(maps.flatten(), torch.tensor([0.9, 0.995]))
            torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-4)
        heat = efficientad(images)["anomaly_map"]
    # Two maps that are each 0 and 0.1 at these quantiles have a mean near there.
    assert -0.1 < float(torch.quantile(heat.flatten()[:100_000], 0.95)) < 0.1


def test_channel_statistics_are_those_of_all_maps_together():
    maps = [torch.randn(n, 5, 6, 6) * 3 + 2 for n in (1, 4, 2)]
    mean, deviation = channel_statistics(iter(maps))
    whole = torch.cat(maps)
    torch.testing.assert_close(mean.flatten(), whole.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deviation.flatten(), whole.std(dim=(0, 2, 3), correction=0), rtol=1e-4, atol=1e-4)


def test_hard_feature_loss_is_the_mean_beyond_the_quantile():
    values = torch.rand(4, 5, 10, 10)
    expected = values[values >= torch.quantile(values, 0.99)].mean()
    assert float(hard_feature_loss(values, 0.99)) == pytest.approx(float(expected), rel=1e-3)
    assert float(hard_feature_loss(values, 0.0)) == pytest.approx(float(values.mean()), rel=1e-5)


def test_jitter_keeps_the_range_and_changes_every_kind():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 8)
    changes = [float((jitter(image) - image).abs().max()) for _ in range(12)]
    assert max(changes) <= 0.2 + 1e-6
    assert min(changes) > 0


def test_squared_unit_distance_is_the_cosine_distance():
    a, b = torch.randn(2, 7, 3, 4), torch.randn(2, 7, 3, 4)
    expected = 1 - torch.nn.functional.cosine_similarity(a, b, dim=1)
    torch.testing.assert_close(squared_unit_distance(a, b), expected, rtol=1e-4, atol=1e-5)


def test_masked_mean_leaves_out_what_does_not_count():
    values = torch.arange(16.0).view(1, 4, 4)
    valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[:, :4, :4] = True
    assert float(masked_mean(values, valid)) == pytest.approx((0 + 1 + 4 + 5) / 4)


def test_contrastive_loss():
    distance = torch.tensor([0.3, 0.3, 1.4])
    different = torch.tensor([False, True, True])
    np.testing.assert_allclose(contrastive_loss(distance, different, 1.0), [0.09, 0.49, 0], atol=1e-6)


def test_stfpm_student_starts_other_than_its_teacher_and_learns_from_it():
    torch.manual_seed(0)
    method = STFPM(STFPMOptions(image_size=64, learning_rate=0.1), CLASSES)
    images = torch.rand(8, 3, 64, 64)
    optimizer = method.configure_optimizers()["optimizer"]
    before = {name: tensor.clone() for name, tensor in method.teacher.state_dict().items()}
    losses = []
    for _ in range(12):
        loss = torch.stack([m.mean() for m in method.train().distances(images)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2  # of three maps, each about 1 for features that have nothing in common
    assert losses[-1] < 0.9 * losses[0]
    for name, tensor in method.teacher.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_spade_finds_the_nearest_places_by_brute_force():
    torch.manual_seed(0)
    method = Spade(SpadeOptions(image_size=64, neighbours=3, blur=0), CLASSES).eval()
    gallery, images = torch.rand(6, 3, 64, 64), torch.rand(2, 3, 64, 64)
    batch = {"image": gallery, "valid": torch.ones(6, 64, 64, dtype=torch.bool)}
    with torch.inference_mode():
        method.training_step(batch, 0)
        method.finish()
        outputs = method(images)
        whole, places = method.describe(images)
        gallery_whole, gallery_places = method.describe(gallery)
    distances = torch.cdist(whole, gallery_whole)
    for i in range(2):
        nearest = distances[i].topk(3, largest=False)
        assert float(outputs["anomaly_score"][i]) == pytest.approx(float(nearest.values.square().mean()), rel=1e-3)
        expected = torch.cdist(places[i], gallery_places[nearest.indices].flatten(0, 1)).amin(dim=1)
        found = outputs["anomaly_map"][i, 4::8, 4::8]  # enlarged maps keep their corners' values near the middles
        assert float(outputs["anomaly_map"][i].max()) <= float(expected.max()) * 1.01
        assert np.corrcoef(found.flatten(), expected)[0, 1] > 0.9


def test_spade_places_outside_the_roi_match_nothing():
    torch.manual_seed(0)
    method = Spade(SpadeOptions(image_size=64, neighbours=1, blur=0), CLASSES).eval()
    image = torch.rand(1, 3, 64, 64)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :32] = False
    with torch.inference_mode():
        method.training_step({"image": image, "valid": valid}, 0)
        method.finish()
        heat = method(image)["anomaly_map"][0]
    assert float(heat[40:].max()) < 0.2 * float(heat[:24].mean())
    assert float(heat.max()) < 1e3  # they are far from the place bank, not from the query


def siamese(**options) -> Siamese:
    torch.manual_seed(0)
    return Siamese(SiameseOptions(image_size=64, dimensions=8, blur=0, **options), CLASSES).eval()


def test_siamese_finds_a_difference_from_the_template_where_it_is():
    method = siamese(tolerance=0)
    template = torch.rand(1, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    image = template.clone()
    image[:, :, 40:52, 8:20] = 1 - image[:, :, 40:52, 8:20]
    with torch.inference_mode():
        assert float(method(template, template)["anomaly_map"].max()) < 1e-2
        heat = method(image, template)["anomaly_map"][0]
    y, x = divmod(int(heat.argmax()), 64)
    assert 36 <= y < 56
    assert 4 <= x < 24


def test_siamese_measures_the_smallest_distances_as_finely_as_double_precision():
    torch.manual_seed(7)
    own = torch.nn.functional.normalize(torch.randn(1, 8, 16, 16), dim=1)
    near = torch.nn.functional.normalize(own + 1e-3 * torch.randn_like(own), dim=1)
    method = siamese(tolerance=0)
    exact = method.distance(own.double(), near.double())
    torch.testing.assert_close(method.distance(own, near).double(), exact, rtol=1e-4, atol=0)


def test_siamese_compares_no_image_with_itself():
    method = siamese()
    images = torch.rand(9, 3, 64, 64)
    for batch in (images[:8], images[8:], images[:8], images[8:]):
        others = method.others(batch)
        assert all(not torch.equal(other, own) for other, own in zip(others, batch, strict=True))
        assert all(any(torch.equal(other, one) for one in images) for other in others)


def test_siamese_tolerates_a_small_shift():
    own = torch.nn.functional.normalize(torch.randn(1, 8, 10, 10), dim=1)
    shifted = own.roll((1, -1), dims=(2, 3))
    strict, tolerant = siamese(tolerance=0), siamese(tolerance=1)
    assert float(strict.distance(own, shifted)[:, 1:-1, 1:-1].mean()) > 0.5
    assert float(tolerant.distance(own, shifted)[:, 1:-1, 1:-1].max()) < 1e-2


def test_what_a_shift_brings_in_at_the_border_is_no_difference_from_the_template():
    distance = torch.rand(2, 40, 40)
    method = siamese(tolerance=1)
    assert [method.edge(distance), siamese(tolerance=0).edge(distance), siamese(tolerance=8).edge(distance)] == [
        2,
        0,
        2,
    ]
    found = without_edge(distance, 2)
    kept = inside(distance, 2)
    assert torch.equal(found[:, kept], distance[:, kept])
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(found[:, :, -1], found[:, :, -3])
    assert torch.equal(found[:, 0, 0], distance[:, 2, 2])
    assert int(kept.sum()) == 36**2


def test_linear_attention_is_attention_with_the_kernel_elu_plus_one():
    torch.manual_seed(0)
    attention = LinearAttention(12, heads=3).eval()
    x = torch.randn(2, 7, 12)
    query, key, value = attention.qkv(x).view(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
    weights = (torch.nn.functional.elu(query) + 1) @ (torch.nn.functional.elu(key) + 1).transpose(2, 3)
    mixed = (weights / weights.sum(dim=-1, keepdim=True)) @ value
    expected = attention.out(mixed.transpose(1, 2).reshape(2, 7, 12))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_loose_loss_holds_back_the_places_that_are_rebuilt_well():
    torch.manual_seed(0)
    target = torch.randn(2, 6, 4, 4)
    start = target + torch.randn(2, 6, 4, 4) * torch.linspace(0.1, 3, 16).view(1, 1, 4, 4)
    gradients = []
    for share in (0.0, 0.5):
        rebuilt = start.clone().requires_grad_()
        loss = loose_cosine_loss(target, rebuilt, share)
        loss.backward()
        gradients.append(rebuilt.grad.abs().sum(dim=1))
    ratio = gradients[1] / gradients[0]
    assert sorted({round(float(r), 2) for r in ratio.flatten()}) == [0.1, 1.0]
    distance = squared_unit_distance(target, start)
    assert float(distance[ratio < 0.5].max()) < float(distance[ratio > 0.5].min())


def test_a_side_that_is_no_multiple_of_the_patches_names_one_that_is():
    with pytest.raises(OptionError, match="try 252"):
        check_side("vit_small_patch14_dinov2", 256)
    with pytest.raises(OptionError, match="no vision transformer"):
        check_side("resnet18", 256)


def test_textures_are_varied_pictures_and_repeat_with_the_seed():
    torch.manual_seed(5)
    first = textures(4, 3, 64)
    torch.manual_seed(5)
    torch.testing.assert_close(textures(4, 3, 64), first, rtol=0, atol=0)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert bool((first.flatten(1).std(dim=1) > 0.05).all())


def test_a_folder_without_images_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        AuxiliaryImages(str(tmp_path), 3, 64)


@pytest.mark.parametrize("name", ["patchcore", "anomaly-dino"])
@pytest.mark.parametrize("rotations", [1, 4])
def test_a_bank_with_turned_images_knows_a_turned_part(name, rotations):
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
    places = int(valid[:, 8::16, 8::16].sum()) if name == "anomaly-dino" else int(valid[:, 4::8, 4::8].sum())
    assert len(method.bank) == rotations * places


SMALL_VIT = {"backbone": "vit_tiny_patch16_224", "weights": "random", "image_size": 64}
VIT = {
    "anomaly-dino": {**SMALL_VIT, "max_vectors": 40},
    "dinomaly": {**SMALL_VIT, "heads": 3, "blocks": 4, "steps": 3},
}


@pytest.mark.parametrize("name", sorted(VIT))
def test_transformer_methods_answer_one_batch_like_another(name):
    torch.manual_seed(0)
    kind = method_class(name)
    method = kind(kind.Options(**VIT[name]), CLASSES).eval()
    images = torch.rand(5, 3, 64, 64)
    with torch.inference_mode():
        if name == "anomaly-dino":
            method.training_step({"image": torch.rand(6, 3, 64, 64), "valid": torch.ones(6, 64, 64) > 0}, 0)
            method.finish()
            assert method.bank.shape == (40, 192)
        whole, single = method(images), method(images[:1])
    for key, value in single.items():
        torch.testing.assert_close(whole[key][:1], value, rtol=1e-4, atol=1e-5)
    assert whole["anomaly_map"].shape == (5, 64, 64)
