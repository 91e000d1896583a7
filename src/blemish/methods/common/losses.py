"""Losses and distances that several methods share: small functions of tensors."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.common.blocks import sum_maps, valid_patches

PREWITT = [[1 / 3, 0.0, -1 / 3]] * 3
GMS_CONSTANT = 0.0026  # keeps the similarity of two flat regions at 1; for images in [0, 1]


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of an (N, h, w) map over its valid cells; `valid` is (N, H, W) bool. 0 where none is valid."""
    weights = valid_patches(valid, values.shape[-2:]).to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)


def focal_loss(cross_entropy: Tensor, gamma: float = 2.0, likelihood: Tensor | None = None) -> Tensor:
    """Focal loss (Lin et al. 2017) of each element: its cross-entropy times (1 - likelihood)^gamma.

    `cross_entropy` is binary or of several classes, of any shape; `likelihood`, the probability given to the true
    class, follows from it unless labels are smoothed.
    """
    if likelihood is None:
        likelihood = torch.exp(-cross_entropy)
    return (1 - likelihood) ** gamma * cross_entropy


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of (N, D) and (M, D) vectors, as one matrix product: (N, M)."""
    return (x.square().sum(1, keepdim=True) - 2 * x @ y.T + y.square().sum(1)).clamp(min=0)


def squared_unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared distance of unit-length features, which is 1 - cos: two (N, C, h, w) to (N, h, w), 0 to 2."""
    return 0.5 * (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1)


def whole_map_distance(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - cos of features (N, C, h, w), the valid cells of a map taken as one vector: the mean over N.

    Locations weigh by the strength of their features: the directions of those of a plain background are noise. `valid`
    is (N, H, W) bool, None: all; a map without a valid cell counts 1.
    """
    if valid is not None:
        inside = valid_patches(valid, a.shape[-2:])[:, None].to(a.dtype)
        a, b = a * inside, b * inside
    return (1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)).mean()


def hard_feature_loss(squared: Tensor, share: float) -> Tensor:
    """Mean of the elements at or above the `share` quantile (Batzner et al. 2024, "hard feature loss")."""
    flat = squared.flatten()
    count = max(1, round(flat.numel() * (1 - share)))
    return flat.topk(count).values.mean()


def pseudo_huber(x: Tensor) -> Tensor:
    """sqrt(x^2 + 1) - 1, elementwise: quadratic near zero, linear far from it."""
    return (x.square() + 1).sqrt() - 1


def hypersphere_loss(distance: Tensor, anomalous: Tensor) -> Tensor:
    """Hypersphere classification (Ruff et al. 2020; Liznerski et al. 2021) of (N,) distances, `anomalous` (N,) bool."""
    away = -torch.log(-torch.expm1(-distance.clamp(min=1e-6)))
    return torch.where(anomalous, away, distance).mean()


def contrastive_loss(distance: Tensor, different: Tensor, margin: float) -> Tensor:
    """Hadsell et al. 2006, elementwise: squared distance of equal pairs, squared shortfall to the margin of others."""
    return torch.where(different, (margin - distance).clamp(min=0), distance).square()


def ssim_map(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity (Wang et al. 2004) of (N, C, H, W) images in [0, 1], mean over channels: (N, H, W), to 1.

    Gaussian window, full scale 1, K1 = 0.01, K2 = 0.03.
    """
    offsets = torch.arange(window, dtype=a.dtype, device=a.device) - window // 2
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes = torch.cat([a, b, a * a + b * b, (a - b).square()], dim=1)
    channels = int(planes.shape[1])
    kernels = torch.stack([kernel] * channels)[:, None]  # grouped: far faster to learn than one channel
    padded = F.pad(planes, (window // 2,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernels[:, :, None], groups=channels)
    mean_a, mean_b, mean_squares, mean_gap = F.conv2d(rows, kernels[:, :, :, None], groups=channels).chunk(4, dim=1)
    first, second = 0.01**2, 0.03**2
    # Both factors by the difference of the images, which is small where they are alike: as products and covariances
    # they are differences of nearly equal numbers on bright surfaces, and two engines differ by what a defect scores.
    squares, gap = mean_a.square() + mean_b.square(), (mean_a - mean_b).square()
    luminance = 1 - gap / (squares + first)
    structure = 1 - (mean_gap - gap) / (mean_squares - squares + second)
    return (luminance * structure).mean(dim=1)


def gradient_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Gradient magnitude similarity (Xue et al. 2014) of (N, 1, H, W) images in [0, 1]: (N, H, W), 0 to 1."""
    kernels = torch.tensor([PREWITT, [list(row) for row in zip(*PREWITT, strict=True)]], dtype=a.dtype, device=a.device)
    magnitudes = []
    for image in (a, b):
        gradients = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels[:, None])
        magnitudes.append((gradients.square().sum(dim=1) + 1e-12).sqrt())
    first, second = magnitudes
    return (2 * first * second + GMS_CONSTANT) / (first.square() + second.square() + GMS_CONSTANT)


def msgms_map(a: Tensor, b: Tensor, scales: int = 4) -> Tensor:
    """Multi-scale gradient magnitude distance (Zavrtanik et al. 2021) of (N, C, H, W) images in [0, 1]: (N, H, W).

    1 - GMS of the channels' mean at full, half, quarter ... size, enlarged and averaged; from 0.
    """
    size = a.shape[-2:]
    a, b = a.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True)
    maps = []
    for scale in range(scales):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        maps.append(1 - gradient_similarity(a, b))
    return sum_maps(maps, size) / scales


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of diagonal normals (N, D) from the standard normal, in nats: (N,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """WGAN-GP (Gulrajani et al. 2017): mean of (norm of the critic's gradient - 1)^2 between real and fake images."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt() - 1).square().mean()
