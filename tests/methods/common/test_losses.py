"""Shared losses against scikit-image, torch.distributions, autograd and arithmetic."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage.filters import prewitt_h, prewitt_v
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity
from skimage.transform import resize
from torch.distributions import Normal, kl_divergence

from blemish.methods.common.blocks import GaussianBlur
from blemish.methods.common.losses import (
    focal_loss,
    gradient_penalty,
    gradient_similarity,
    kl_to_standard_normal,
    masked_mean,
    msgms_map,
    ssim_map,
)


def pair(channels: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that are alike on the left and unlike on the right."""
    rng = torch.Generator().manual_seed(channels)
    a = F.interpolate(torch.rand(2, channels, 12, 12, generator=rng), size=(size, size), mode="bilinear")
    noise = 0.4 * torch.rand(2, channels, size, size, generator=rng)
    b = torch.where(torch.arange(size) < size // 2, a, (a + noise).clamp(0, 1))
    return a, b


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels):
    a, b = pair(channels)
    found = ssim_map(a, b).numpy()
    for i in range(len(a)):
        x, y = (t[i].permute(1, 2, 0).double().numpy() for t in (a, b))
        as_published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        expected = structural_similarity(x, y, channel_axis=-1, full=True, **as_published)[1].mean(axis=-1)
        np.testing.assert_allclose(
            found[i, 6:-6, 6:-6], expected[6:-6, 6:-6], atol=2e-4
        )  # borders are padded otherwise
    np.testing.assert_allclose(ssim_map(a, a).numpy(), 1, atol=1e-6)


def test_ssim_of_bright_and_nearly_equal_images_is_exact():
    """In 32 bits as in 64: a map in deviations of good images enlarges what is lost, here by about 40."""
    rng = torch.Generator().manual_seed(0)
    a = 0.95 + 0.02 * torch.rand(1, 3, 64, 64, generator=rng)
    b = a + 0.003 * torch.randn(1, 3, 64, 64, generator=rng)
    found, expected = ssim_map(a, b), ssim_map(a.double(), b.double())
    assert float((1 - expected).max()) > 0.01
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)


def gms_by_scikit_image(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = (np.hypot(prewitt_h(np.pad(t, 1, mode="edge")), prewitt_v(np.pad(t, 1, mode="edge"))) for t in (x, y))
    return ((2 * a * b + 0.0026) / (a**2 + b**2 + 0.0026))[1:-1, 1:-1]


def test_gradient_similarity_is_that_of_scikit_images_prewitt():
    a, b = pair(1)
    found = gradient_similarity(a, b).numpy()
    for i in range(len(a)):
        np.testing.assert_allclose(found[i], gms_by_scikit_image(a[i, 0].numpy(), b[i, 0].numpy()), atol=1e-4)


def test_msgms_averages_the_scales():
    a, b = pair(3)
    x, y = (t[0].mean(dim=0).double().numpy() for t in (a, b))
    expected = np.zeros_like(x)
    for scale in range(4):
        size = 2**scale
        one = 1 - gms_by_scikit_image(block_reduce(x, (size, size), np.mean), block_reduce(y, (size, size), np.mean))
        expected += resize(one, x.shape, order=1, mode="edge", anti_aliasing=False) / 4
    np.testing.assert_allclose(msgms_map(a, b)[0].numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(msgms_map(a, a).numpy(), 0, atol=1e-5)


def test_focal_is_weighted_cross_entropy():
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 2, 5, 7, generator=rng)
    defect = torch.rand(2, 5, 7, generator=rng) < 0.3
    entropy = F.cross_entropy(logits, defect.long(), reduction="none")
    torch.testing.assert_close(focal_loss(entropy, gamma=0.0), entropy)
    likelihood = torch.where(defect, logits.softmax(dim=1)[:, 1], logits.softmax(dim=1)[:, 0])
    torch.testing.assert_close(focal_loss(entropy), (1 - likelihood) ** 2 * entropy)


def test_kl_is_that_of_torch_distributions():
    rng = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 6, 9, generator=rng)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


@pytest.mark.parametrize("slope", [0.2, 1.0, 3.0])
def test_gradient_penalty_of_a_linear_critic_is_known(slope):
    direction = F.normalize(torch.randn(1, 3 * 8 * 8), dim=1)
    weight = (slope * direction).requires_grad_(True)
    real, fake = torch.rand(2, 5, 3, 8, 8)
    penalty = gradient_penalty(lambda x: (x.flatten(1) * weight).sum(dim=1), real, fake)
    assert penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-4)
    (gradient,) = torch.autograd.grad(penalty, weight)  # d/dw (|w| - 1)^2
    torch.testing.assert_close(gradient, 2 * (slope - 1) * direction, atol=1e-4, rtol=1e-3)


def test_gradient_penalty_is_measured_between_the_images():
    seen = []

    def critic(x):
        seen.append(x)
        return x.flatten(1).sum(dim=1)

    real, fake = torch.zeros(64, 1, 2, 2), torch.ones(64, 1, 2, 2)
    gradient_penalty(critic, real, fake)
    between = seen[0].detach().flatten(1)
    assert (between == between[:, :1]).all()  # one share for each image
    assert between.min() < 0.2
    assert between.max() > 0.8


def test_masked_mean_leaves_out_what_does_not_count():
    values = torch.arange(16.0).view(1, 4, 4)
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 1, :2] = True
    assert masked_mean(values, valid).item() == pytest.approx(4.5)
    assert masked_mean(values, torch.zeros_like(valid)).item() == 0


@pytest.mark.parametrize(("sigma", "side", "border"), [(2.0, 48, "mirror"), (8.0, 32, "nearest")])
def test_blur_against_scipy_also_where_it_reaches_beyond_the_map(sigma, side, border):
    maps = torch.rand(2, side, side, generator=torch.Generator().manual_seed(0))
    expected = np.stack([gaussian_filter(m.numpy(), sigma, mode=border, truncate=4.0) for m in maps])
    np.testing.assert_allclose(GaussianBlur(sigma)(maps).numpy(), expected, atol=1e-5)
