"""Losses of detectors."""

import torch
from torch import nn

from blemish.methods.detection.losses import focal_softmax


def test_focal_softmax_without_focus_is_cross_entropy():
    logits, target = torch.randn(20, 4), torch.randint(0, 4, (20,))
    expected = nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(focal_softmax(logits, target, gamma=0.0), expected)
