"""The temperature of calibrated probabilities."""

import pytest
import torch

from blemish.methods.classification.temperature import fit_binary_temperature, fit_temperature


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_recovers_the_sampling_temperature(temperature):
    torch.manual_seed(0)
    logits = 2 * torch.randn(4000, 4)
    labels = torch.distributions.Categorical(logits=logits / temperature).sample()
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)
    drawn = (torch.rand(4000, 4) < (logits / temperature).sigmoid()).float()
    assert fit_binary_temperature(logits, drawn) == pytest.approx(temperature, rel=0.1)
    assert fit_temperature(logits, torch.full((4000,), -1)) == 1
