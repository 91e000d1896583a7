"""The subspace of patch features against scikit-learn's PCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from blemish.errors import DataError
from blemish.methods.common.blocks import flatten_maps
from blemish.methods.feature_distance.subspace import Subspace, SubspaceOptions, complement_basis


def make(**options):
    given = {"image_size": 64, "weights": "random", "blur": 0.0, "worst": 0.0, **options}
    return Subspace(SubspaceOptions(**given), ("good", "defect")).eval()


def fit_on(method, *batches):
    for images in batches:
        method.training_step({"image": images, "valid": torch.ones(len(images), 64, 64, dtype=torch.bool)}, 0)
    method.finish()


@torch.inference_mode()
@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_residuals_are_those_of_principal_components(variance):
    torch.manual_seed(0)
    images = torch.rand(6, 3, 64, 64)
    method = make(variance=variance)
    fit_on(method, images[:2], images[2:3], images[3:5])  # in one pass, batch by batch
    vectors = flatten_maps(method.features(images[:5])).double().numpy()
    pca = PCA(n_components=variance, svd_solver="full").fit(vectors)
    probe = flatten_maps(method.features(images[5:])).double().numpy()
    expected = np.linalg.norm(probe - pca.inverse_transform(pca.transform(probe)), axis=1)
    assert method.complement.shape[1] == vectors.shape[1] - pca.n_components_
    shifted = torch.from_numpy(probe).float() - method.mean
    found = (shifted @ method.complement).norm(dim=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.max())
    outputs = method(images[5:])
    assert outputs["anomaly_score"] == outputs["anomaly_map"].max()
    worst = make(variance=variance, worst=0.05)
    worst.mean, worst.complement = method.mean, method.complement
    worst.backbone = method.backbone
    count = round(0.05 * len(expected))
    assert float(worst(images[5:])["anomaly_score"]) == pytest.approx(np.sort(expected)[-count:].mean(), rel=1e-3)


def test_something_is_always_outside_and_nothing_can_be_kept_of_nothing():
    assert complement_basis(torch.eye(4, dtype=torch.float64), 0.99).shape == (4, 1)
    assert complement_basis(torch.diag(torch.tensor([9.0, 1, 0, 0])).double(), 0.8).shape == (4, 3)
    with pytest.raises(DataError, match="at least two valid patches"):
        make().finish()


@torch.inference_mode()
def test_pixels_that_are_not_inspected_have_no_part_in_it():
    torch.manual_seed(0)
    images = torch.rand(3, 3, 64, 64)
    seen, masked = make(), make()
    masked.backbone = seen.backbone
    fit_on(seen, images[:2])
    valid = torch.ones(3, 64, 64, dtype=torch.bool)
    valid[2] = False
    masked.training_step({"image": images, "valid": valid}, 0)
    masked.finish()
    torch.testing.assert_close(masked.mean, seen.mean)
    torch.testing.assert_close(masked.complement.abs(), seen.complement.abs(), rtol=1e-3, atol=1e-3)
