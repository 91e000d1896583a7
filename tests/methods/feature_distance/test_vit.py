"""Methods on vision transformers and their blocks."""

import pytest
import torch

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.methods.common.losses import squared_unit_distance
from blemish.methods.feature_distance.vit import LinearAttention, check_side, loose_cosine_loss

CLASSES = ("good", "defect")


SMALL_VIT = {"backbone": "vit_tiny_patch16_224", "weights": "random", "image_size": 64}


VIT = {
    "anomaly-dino": {**SMALL_VIT, "max_vectors": 40},
    "dinomaly": {**SMALL_VIT, "heads": 3, "blocks": 4, "steps": 3},
}


def test_linear_attention_equals_attention_with_the_kernel_elu_plus_one():
    torch.manual_seed(0)
    attention = LinearAttention(12, heads=3).eval()
    x = torch.randn(2, 7, 12)
    query, key, value = attention.qkv(x).view(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
    weights = (torch.nn.functional.elu(query) + 1) @ (torch.nn.functional.elu(key) + 1).transpose(2, 3)
    mixed = (weights / weights.sum(dim=-1, keepdim=True)) @ value
    expected = attention.out(mixed.transpose(1, 2).reshape(2, 7, 12))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_loose_loss_reduces_gradients_of_well_reconstructed_locations():
    torch.manual_seed(0)
    target = torch.randn(2, 6, 4, 4)
    start = target + torch.randn(2, 6, 4, 4) * torch.linspace(0.1, 3, 16).view(1, 1, 4, 4)
    gradients = []
    for share in (0.0, 0.5):
        reconstructed = start.clone().requires_grad_()
        loss = loose_cosine_loss(target, reconstructed, share)
        loss.backward()
        gradients.append(reconstructed.grad.abs().sum(dim=1))
    ratio = gradients[1] / gradients[0]
    assert sorted({round(float(r), 2) for r in ratio.flatten()}) == [0.1, 1.0]
    distance = squared_unit_distance(target, start)
    assert float(distance[ratio < 0.5].max()) < float(distance[ratio > 0.5].min())


def test_a_side_that_is_not_a_multiple_of_the_patch_suggests_one():
    with pytest.raises(OptionError, match="try 252"):
        check_side("vit_small_patch14_dinov2", 256)
    with pytest.raises(OptionError, match="not a vision transformer"):
        check_side("resnet18", 256)


@pytest.mark.parametrize("name", sorted(VIT))
def test_transformer_methods_do_not_depend_on_the_batch(name):
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
