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


def test_one_class_alone_gives_no_temperature():
    torch.manual_seed(0)
    logits = torch.randn(50, 4)
    assert fit_temperature(logits, torch.tensor([2, -1] * 25)) == 1
    assert fit_temperature(logits, torch.tensor([2, 1] * 25)) != 1
    assert fit_binary_temperature(logits, torch.zeros(50, 4)) == fit_binary_temperature(logits[:0], logits[:0]) == 1
    assert fit_binary_temperature(logits, torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]] * 25)) != 1
