"""The adversarial autoencoder's codes."""

import torch
from torch import nn

SIZE = 64


def test_aae_pushes_codes_towards_the_prior(make_method, train_method):
    torch.manual_seed(0)
    images = torch.rand(16, 3, SIZE, SIZE)
    method = make_method("aae", steps=60, dimensions=4, learning_rate=2e-3)
    nn.init.constant_(method.encoder[-1].bias, 3.0)  # far off the prior's mean of zero
    with torch.inference_mode():
        before = method.train().encoder(images).mean()
    train_method(method, images)
    with torch.inference_mode():
        after = method.train().encoder(images).mean()
    assert before > 2
    assert after < before - 0.5
