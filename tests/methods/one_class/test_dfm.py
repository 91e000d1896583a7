"""DFM against scikit-learn's PCA, and its map."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.one_class.dfm import DFM, DFMOptions, average_squares, principal_components
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


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_squares_at_the_edge_are_averaged_over_what_is_inside(side):
    maps = torch.rand(2, 3, 5, 5)
    starts = range(0, 5, side)
    squares = [[maps[:, :, y : y + side, x : x + side].mean(dim=(2, 3)) for x in starts] for y in starts]
    expected = torch.stack([torch.stack(row, dim=-1) for row in squares], dim=-2)
    torch.testing.assert_close(average_squares(maps, side), expected)


class LocalMeans(torch.nn.Module):
    """A network whose locations see their own square of the image only."""

    def forward(self, images):
        return [torch.nn.functional.avg_pool2d(images, 16)]


@pytest.mark.parametrize(("size", "pooling"), [(240, 2), (256, 3), (256, 5)])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.97])
def test_a_defect_is_found_where_it_is_whatever_the_squares(size, pooling, place):
    torch.manual_seed(0)
    method = DFM(DFMOptions(image_size=size, pooling=pooling, blur=0), CLASSES).eval()
    method.backbone = LocalMeans()
    images = torch.rand(9, 3, size, size)
    image, middle = images[8:].clone(), round(place * size)
    image[:, :, middle - 4 : middle + 4, middle - 4 : middle + 4] = 10
    with torch.inference_mode():
        method.training_step({"image": images[:8]}, 0)
        method.finish()
        bad = method(image)
    assert bad["anomaly_score"] > 5 * method(images[8:])["anomaly_score"]
    heat = bad["anomaly_map"][0]
    hottest = (heat >= 0.999 * heat.max()).nonzero().float().mean(dim=0)  # at the border several rows are the same
    assert (hottest - middle).abs().max() <= 8 * pooling + 1  # half a square
    spec = InputSpec(channels=3, height=size, width=size)
    shipped = open_engine(export_graph(method, spec)).run(image.numpy())
    np.testing.assert_allclose(shipped.anomaly_map, bad["anomaly_map"], rtol=1e-3, atol=1e-4)
