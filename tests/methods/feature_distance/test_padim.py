"""PaDiM: the distance against NumPy's, also where the covariance is nearly singular."""

import numpy as np
import pytest
import torch

from blemish.errors import DataError
from blemish.methods.feature_distance import padim
from blemish.methods.feature_distance.padim import Padim, PadimOptions, precision_factor


def fitted(regularisation: float) -> tuple[Padim, torch.Tensor]:
    torch.manual_seed(0)
    options = PadimOptions(
        image_size=32, grid_stride=16, dimensions=40, backbone="test_resnet", weights="random",
        regularisation=regularisation,
    )  # fmt: skip
    method = Padim(options, ("good", "defect")).eval()
    images = torch.rand(12, 3, 32, 32)  # fewer than dimensions: without the regularisation it has no inverse
    with torch.inference_mode():
        method.training_step({"image": images, "valid": torch.ones(12, 32, 32, dtype=torch.bool)}, 0)
        method.finish()
    return method, images


@pytest.mark.parametrize("regularisation", [0.01, 1e-4])
def test_distances_equal_those_by_numpy(regularisation):
    method, images = fitted(regularisation)
    new = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        learned, vectors = method.embed(images).double().numpy(), method.embed(new)
        own = torch.bmm((vectors - method.mean).transpose(0, 1), method.factor).square().sum(dim=2).sqrt().T.numpy()
    for place in range(own.shape[1]):
        covariance = np.cov(learned[:, place], rowvar=False) + regularisation * np.eye(learned.shape[2])
        offset = vectors[:, place].double().numpy() - learned[:, place].mean(axis=0)
        expected = np.sqrt(np.einsum("nd,de,ne->n", offset, np.linalg.inv(covariance), offset))
        np.testing.assert_allclose(own[:, place], expected, rtol=1e-3)


@pytest.mark.parametrize("regularisation", [1e-2, 1e-6])
def test_the_factor_is_that_of_the_inverse(regularisation):
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64)).Q
    scales = torch.logspace(0, -9, 20, dtype=torch.float64)
    covariance = (directions * scales) @ directions.T + regularisation * torch.eye(20)
    factor = precision_factor(covariance[None].float(), regularisation)[0].double()
    expected = torch.linalg.inv(covariance.float().double())
    assert ((factor @ factor.T - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("least", [-2e-6, -1.000001e-6 / 1.5])
def test_a_covariance_that_rounding_rules_has_no_factor(least):
    """Without rounding no variance is below zero: least is that of one direction before the regularisation."""
    covariance = torch.diag(torch.tensor([1.0, least])) + 1e-6 * torch.eye(2)
    assert precision_factor(covariance[None], 1e-6) is None


def test_too_small_a_regularisation_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(padim, "precision_factor", lambda *_: None)
    with pytest.raises(DataError, match="regularisation=1e-06 of padim is too small"):
        fitted(1e-6)
