"""FastFlow: inverse, log-determinant and likelihood."""

import numpy as np
import pytest
import torch

from blemish.methods.one_class.fastflow import NormalizingFlow, negative_log_likelihood


def shaken_flow(channels: int, seed: int = 0) -> NormalizingFlow:
    """A flow in double precision whose couplings do something: a fresh one is the identity."""
    torch.manual_seed(seed)
    flow = NormalizingFlow(channels, steps=4, kernels=(3, 1), hidden_ratio=1.0, clamp=2.0).double()
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
