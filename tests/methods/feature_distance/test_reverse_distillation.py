"""Reverse distillation: the decoder mirrors its teacher."""

import pytest
import torch

from blemish.methods.feature_distance.reverse_distillation import (
    FeatureDecoder,
    ResidualBlock,
    ReverseDistillation,
    ReverseDistillationOptions,
)


def made(backbone: str) -> ReverseDistillation:
    options = ReverseDistillationOptions(backbone=backbone, weights="random", image_size=64, width=16)
    return ReverseDistillation(options, ("good",)).eval()


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0"])
def test_reconstructed_maps_are_of_the_teacher_s_shape_and_sign(backbone):
    """Features of EfficientNet-Lite end in a convolution and are negative too; a ResNet's end in a ReLU."""
    method = made(backbone)
    with torch.no_grad():
        pairs = method.pairs(torch.rand(2, 3, 64, 64))
    assert [tuple(a.shape) for a, _ in pairs] == [tuple(b.shape) for _, b in pairs]
    for teacher, reconstructed in pairs:
        assert (teacher.min() >= 0) == (reconstructed.min() >= 0)


def test_each_stage_starts_from_the_map_reconstructed_before():
    decoder = FeatureDecoder(8, (3, 5, 6), [True] * 3).eval()
    fine, middle, coarse = decoder(torch.rand(1, 8, 2, 2))
    torch.testing.assert_close(decoder.stages[1](coarse), middle)
    torch.testing.assert_close(decoder.stages[2](middle), fine)


@pytest.mark.parametrize(("scale", "side"), [(0.5, 4), (1, 8), (2, 16)])
def test_a_residual_block_scales_the_size(scale, side):
    assert ResidualBlock(3, 5, scale)(torch.rand(2, 3, 8, 8)).shape == (2, 5, side, side)


@pytest.mark.parametrize("side", [32, 64])
def test_a_batch_of_one_image_trains_whatever_the_size(side):
    options = ReverseDistillationOptions(backbone="test_resnet", weights="random", image_size=side, width=16)
    method = ReverseDistillation(options, ("good",)).train()
    batch = {
        "image": torch.rand(1, 3, side, side),
        "valid": torch.ones(1, side, side, dtype=torch.bool),
        "number": torch.tensor([0]),
    }
    loss = method.compute_loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.decoder.parameters())
