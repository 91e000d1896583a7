"""The VAE's gradient and scores."""

import torch
from torch import nn

from blemish.methods.common.losses import kl_to_standard_normal

SIZE = 64


def test_elbo_gradient_equals_autograd(make_method):
    method = make_method("vae").double()
    images = torch.rand(3, 3, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    mean, log_variance = method.posterior(images)
    misfit = 0.5 * (images - method.decode(mean)).square().sum() / method.options.deviation**2
    loss = misfit + kl_to_standard_normal(mean, log_variance).sum()
    (expected,) = torch.autograd.grad(loss, images)
    torch.testing.assert_close(method.elbo_gradient(images.detach()), expected)


def test_kl_score_is_zero_of_a_code_that_is_the_prior(make_method):
    method = make_method("vae", score="kl")
    last = method.encoder[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert method(torch.rand(2, 3, SIZE, SIZE))["anomaly_score"].abs().max() < 1e-6
    nn.init.constant_(last.bias[: method.options.dimensions], 2.0)
    torch.testing.assert_close(
        method(torch.rand(2, 3, SIZE, SIZE))["anomaly_score"], torch.full((2,), 2.0 * method.options.dimensions)
    )
