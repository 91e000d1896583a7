"""Losses that several methods share: small functions of tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.methods.blocks import valid_patches


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of an (N, h, w) map over the places whose pixels count; `valid` is (N, H, W) bool. 0 where none counts."""
    keep = valid_patches(valid, values.shape[-2:]).to(values.dtype)
    return (values * keep).sum() / keep.sum().clamp(min=1)


def squared_unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """(N, C, h, w) twice: half the squared distance of the features brought to unit length, (N, h, w), 0 to 2.

    It equals the cosine distance, 1 - cos.
    """
    return 0.5 * (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1)


def hard_feature_loss(squared: Tensor, share: float) -> Tensor:
    """Mean of the elements at or above the `share` quantile (Batzner et al. 2024, "hard feature loss")."""
    flat = squared.flatten()
    kept = max(1, round(flat.numel() * (1 - share)))
    return flat.topk(kept).values.mean()


def pseudo_huber(x: Tensor) -> Tensor:
    """sqrt(x^2 + 1) - 1, elementwise: quadratic near zero, linear far from it."""
    return (x.square() + 1).sqrt() - 1


def hypersphere_loss(distance: Tensor, anomalous: Tensor) -> Tensor:
    """Hypersphere classification (Ruff et al. 2020; Liznerski et al. 2021) of (N,) distances, `anomalous` (N,) bool."""
    away = -torch.log(-torch.expm1(-distance.clamp(min=1e-6)))
    return torch.where(anomalous, away, distance).mean()


def contrastive_loss(distance: Tensor, different: Tensor, margin: float) -> Tensor:
    """Hadsell et al. 2006, elementwise: squared distance of equal things, squared shortfall to the margin of others."""
    return torch.where(different, (margin - distance).clamp(min=0), distance).square()
