"""DFM against scikit-learn's PCA, and its map."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.one_class.dfm import DFM, DFMOptions, principal_components
from blemish.training.ship.export import export_graph

CLASSES = ("good", "defect")


def test_principal_components_equal_scikit_learn():
    x = torch.randn(30, 5) @ torch.randn(5, 80) + 0.05 * torch.randn(30, 80) + 3
    mean, components, deviations = principal_components(x, variance=0.9)
    reference = PCA(n_components=0.9, svd_solver="full").fit(x.numpy())
    assert len(components) == len(reference.components_)
    np.testing.assert_allclose(mean.numpy(), reference.mean_, rtol=1e-4, atol=1e-4)
    cosines = np.abs((components.numpy() * reference.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    np.testing.assert_allclose(deviations.numpy() ** 2, reference.explained_variance_, rtol=1e-3)


@pytest.mark.parametrize("size", [56, 62, 64])  # 3.5, 3.9 and 4 strides, of which the network makes 4 locations
def test_sides_that_are_not_a_multiple_of_the_stride(size):
    torch.manual_seed(0)
    method = DFM(DFMOptions(image_size=size, blur=0), CLASSES).eval()
    with torch.inference_mode():
        method.training_step({"image": torch.rand(5, 3, size, size)}, 0)
        method.finish()
        images = torch.rand(2, 3, size, size)
        outputs = method(images)
        error = method.features(images).flatten(1) - method.mean
        error = error - error @ method.components.T @ method.components
    assert outputs["anomaly_map"].shape == (2, size, size)
    torch.testing.assert_close(outputs["anomaly_score"], error.square().sum(dim=1), rtol=1e-4, atol=1e-4)
    shipped = open_engine(export_graph(method, InputSpec(channels=3, height=size, width=size))).run(images.numpy())
    np.testing.assert_allclose(shipped.anomaly_map, outputs["anomaly_map"], rtol=1e-3, atol=1e-4)


def test_pooling_larger_than_the_map_is_refused():
    DFM(DFMOptions(image_size=40, pooling=3), CLASSES)
    with pytest.raises(OptionError, match="pooling=4 leaves nothing"):
        DFM(DFMOptions(image_size=40, pooling=4), CLASSES)
