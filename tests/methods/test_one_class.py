"""What is peculiar to the one-class methods: flows, spheres, subspaces, and the graphs that ship."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.decomposition import PCA

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.common.blocks import image_mean
from blemish.methods.common.losses import hypersphere_loss, pseudo_huber
from blemish.methods.common.textures import confetti
from blemish.methods.one_class import deep_svdd as svdd
from blemish.methods.one_class.deep_svdd import DeepSVDD, DeepSVDDOptions
from blemish.methods.one_class.dfm import DFM, DFMOptions, principal_components
from blemish.methods.one_class.fastflow import Flow, negative_log_likelihood
from blemish.methods.one_class.fcdd import FCDD, FCDDOptions
from blemish.methods.one_class.patch_svdd import NEIGHBOURS, PatchSVDD, PatchSVDDOptions, neighbouring_patches
from blemish.training.ship.export import export_graph

CLASSES = ("good", "defect")


def shaken_flow(channels: int, seed: int = 0) -> Flow:
    """A flow in double precision whose couplings do something: a fresh one is the identity."""
    torch.manual_seed(seed)
    flow = Flow(channels, steps=4, kernels=(3, 1), hidden_ratio=1.0, clamp=2.0).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return flow


@pytest.mark.parametrize("channels", [2, 5, 8])
def test_flow_is_invertible(channels):
    flow = shaken_flow(channels)
    x = torch.randn(3, channels, 4, 5, dtype=torch.float64)
    z, _ = flow(x)
    assert not torch.allclose(z, x, atol=0.1)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [3, 4])
def test_flow_log_determinant_is_that_of_autograds_jacobian(channels):
    flow = shaken_flow(channels, seed=1)
    x = torch.randn(1, channels, 3, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v.view_as(x))[0].flatten(), x.flatten())
    expected = torch.linalg.slogdet(jacobian).logabsdet
    _, log_det = flow(x)
    assert abs(float(expected)) > 0.5
    torch.testing.assert_close(log_det.sum(), expected, rtol=1e-8, atol=1e-8)


def test_negative_log_likelihood_is_that_of_the_standard_gaussian():
    z = torch.randn(2, 6, 3, 3)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(6), torch.eye(6))
    expected = -gaussian.log_prob(z.permute(0, 2, 3, 1)) - 3 * np.log(2 * np.pi)
    torch.testing.assert_close(negative_log_likelihood(z, torch.zeros(2, 3, 3)), expected.float(), rtol=1e-4, atol=1e-4)


def test_principal_components_are_scikit_learns():
    x = torch.randn(30, 5) @ torch.randn(5, 80) + 0.05 * torch.randn(30, 80) + 3
    mean, components, deviations = principal_components(x, variance=0.9)
    reference = PCA(n_components=0.9, svd_solver="full").fit(x.numpy())
    assert len(components) == len(reference.components_)
    np.testing.assert_allclose(mean.numpy(), reference.mean_, rtol=1e-4, atol=1e-4)
    cosines = np.abs((components.numpy() * reference.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    np.testing.assert_allclose(deviations.numpy() ** 2, reference.explained_variance_, rtol=1e-3)


@pytest.mark.parametrize("size", [56, 62, 64])  # 3.5, 3.9 and 4 strides, of which the network makes 4 places
def test_dfm_takes_sides_that_are_no_multiple_of_the_stride(size):
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


def test_dfm_refuses_squares_larger_than_the_map():
    DFM(DFMOptions(image_size=40, pooling=3), CLASSES)
    with pytest.raises(OptionError, match="pooling=4 leaves nothing"):
        DFM(DFMOptions(image_size=40, pooling=4), CLASSES)


def deep_svdd(**options) -> DeepSVDD:
    torch.manual_seed(0)
    return DeepSVDD(DeepSVDDOptions(image_size=32, width=4, dimensions=8, **options), CLASSES)


def test_deep_svdd_has_no_bias_and_no_learnt_shift():
    names = [name for name, _ in deep_svdd().named_parameters()]
    assert names
    assert not [name for name in names if "bias" in name]


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_deep_svdd_score_is_squared_distance_from_the_centre(objective):
    method = deep_svdd(objective=objective, blur=0).eval()
    method.center = torch.randn(8)
    method.squared_radius = torch.tensor(0.7)
    images = torch.rand(3, 3, 32, 32)
    expected = (method.embed(images) - method.center).square().sum(dim=1)
    outputs = method(images)
    torch.testing.assert_close(
        outputs["anomaly_score"], expected - (0.7 if objective == "soft-boundary" else 0.0), rtol=1e-4, atol=1e-4
    )
    # With the centre at the places' mean, the shares of the map add up to the squared distance.
    method.place_mean = torch.randn(8, 8, 8) * 0.01
    method.center = method.place_mean.sum(dim=(1, 2))
    offset = method.embed(images) - method.center
    shares = method.place_shares(method.convolutions(_normalised(images))) - method.place_mean
    total = (offset[:, :, None, None] * shares).sum(dim=(1, 2, 3))
    torch.testing.assert_close(total, offset.square().sum(dim=1), rtol=1e-3, atol=1e-4)


def _normalised(images):
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    return centred / centred.abs().mean(dim=(1, 2, 3), keepdim=True)


def test_deep_svdd_centre_is_the_mean_of_the_good_points_away_from_zero(monkeypatch):
    method = deep_svdd(nu=0.25).eval()
    batches = [{"image": torch.rand(count, 3, 32, 32)} for count in (5, 3)]
    monkeypatch.setattr(svdd, "training_batches", lambda _: batches)
    with torch.no_grad():
        points = torch.cat([method.embed(batch["image"]) for batch in batches])
    method.join.weight.data *= 0.2 / points.mean(dim=0).abs().median()  # some coordinates near zero, some not
    method._set_center()
    with torch.no_grad():
        points = torch.cat([method.eval().embed(batch["image"]) for batch in batches])
    mean = points.mean(dim=0)
    near = mean.abs() < 0.1
    assert near.any()
    assert not near.all()
    torch.testing.assert_close(method.center[~near], mean[~near])
    torch.testing.assert_close(method.center[near], mean[near].sign() * 0.1)
    inside = (points - method.center).square().sum(dim=1) <= method.squared_radius
    assert int(inside.sum()) == 6  # all but the share nu


def test_deep_svdd_soft_radius_leaves_the_share_nu_outside():
    method = deep_svdd(nu=0.2)
    squared = torch.rand(1000)
    method._follow_radius(squared, share=1.0)
    assert float((squared > method.squared_radius).float().mean()) == pytest.approx(0.2, abs=0.01)


def test_deep_svdd_refuses_a_side_that_does_not_halve():
    with pytest.raises(OptionError, match="power of two"):
        DeepSVDD(DeepSVDDOptions(image_size=96), CLASSES)


@pytest.mark.parametrize("side", [32, 64])
def test_patch_svdd_of_the_whole_image_is_that_of_each_patch(side):
    torch.manual_seed(0)
    method = PatchSVDD(PatchSVDDOptions(image_size=96, dimensions=8), CLASSES).eval()
    image = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        dense = method.embed(image)[0 if side == 32 else 1]
        for y, x in [(0, 0), (8, 4), (dense.shape[2] * 4 - 4, 16)]:
            patch = image[:, :, y : y + side, x : x + side] - 0.5
            torch.testing.assert_close(method.encode(patch, side)[0], dense[0, :, y // 4, x // 4], rtol=1e-4, atol=1e-5)
    assert dense.shape[2] == (96 - side) // 4 + 1


def test_patch_svdd_map_puts_each_patch_at_its_middle():
    method = PatchSVDD(PatchSVDDOptions(image_size=96), CLASSES)
    maps = torch.zeros(1, 17, 17)
    maps[0, 5, 9] = 1
    spread = method._to_image(maps, 32)[0]
    assert spread.shape == (96, 96)
    weights = spread / spread.sum()
    middle = ((weights.sum(1) * torch.arange(96)).sum(), (weights.sum(0) * torch.arange(96)).sum())
    assert [float(m) for m in middle] == pytest.approx([5 * 4 + 15.5, 9 * 4 + 15.5], abs=0.01)


def test_patch_svdd_neighbours_lie_where_their_direction_says():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    images = torch.stack([y, x, 0 * x]).repeat(4, 1, 1, 1)  # each pixel's colour is its place
    first, second, direction = neighbouring_patches(images, 32, 8)
    moved = (second - first).mean(dim=(2, 3))[:, :2]
    for offset, wanted in zip(moved, torch.tensor(NEIGHBOURS)[direction], strict=True):
        np.testing.assert_allclose(offset.numpy() / 24, wanted.numpy(), atol=0.2)


def test_hypersphere_loss_pulls_good_in_and_pushes_anomalies_out():
    distance = torch.tensor([0.5, 0.5], requires_grad=True)
    hypersphere_loss(distance, torch.tensor([False, True])).backward()
    assert distance.grad[0] > 0 > distance.grad[1]
    expected = -np.log(1 - np.exp(-0.5))
    assert float(hypersphere_loss(torch.tensor([0.5]), torch.tensor([True]))) == pytest.approx(expected, rel=1e-5)


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    x = torch.tensor([0.0, 0.01, 1000.0])
    np.testing.assert_allclose(pseudo_huber(x).numpy(), [0, 0.00005, 999.0005], rtol=1e-2, atol=1e-6)


def test_confetti_changes_just_what_its_mask_says():
    torch.manual_seed(0)
    images = torch.rand(6, 3, 64, 64)
    before = images.clone()
    spoiled, where = confetti(images)
    torch.testing.assert_close(images, before, rtol=0, atol=0)
    changed = (spoiled != images).any(dim=1)
    assert not bool((changed & ~where).any())
    assert float((changed & where).sum() / where.sum()) > 0.99
    assert float(spoiled.min()) >= 0
    assert float(spoiled.max()) <= 1


def test_fcdd_score_is_the_mean_of_its_map_before_enlarging():
    method = FCDD(FCDDOptions(image_size=64), CLASSES).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        outputs, heat = method(images), method.heat(images)
    assert heat.shape == (2, 4, 4)
    torch.testing.assert_close(outputs["anomaly_score"], heat.mean(dim=(1, 2)))
    assert float(outputs["anomaly_map"].min()) >= 0


class Mean(torch.nn.Module):
    def forward(self, images):
        return {"anomaly_score": image_mean(images).flatten()}


def test_the_mean_of_an_image_is_as_precise_in_the_graph():
    torch.manual_seed(0)
    images = 0.7 + 0.1 * torch.rand(2, 3, 256, 256)
    np.testing.assert_allclose(image_mean(images).flatten(), images.double().mean(dim=(1, 2, 3)), rtol=1e-6)
    buffer = io.BytesIO()
    torch.onnx.export(Mean(), (images,), buffer, dynamo=False, opset_version=17, input_names=["images"])
    found = onnxruntime.InferenceSession(buffer.getvalue()).run(None, {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, images.double().mean(dim=(1, 2, 3)), rtol=2e-6)
