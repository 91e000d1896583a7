"""The autoencoder's initialisation."""

import torch

from blemish.methods.catalogue import method_class


def test_initialisation_keeps_the_spread_in_all_layers():
    """Each convolution's output keeps about the spread of the image, and differs between images."""
    torch.manual_seed(0)
    kind = method_class("autoencoder")
    method = kind(kind.Options(), ("good", "defect"))
    x = torch.rand(4, 3, 1, 1) + 0.3 * torch.rand(4, 3, 128, 128)
    with torch.no_grad():
        for layer in [*method.encoder, *method.decoder]:
            x = layer(x)
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                assert 0.1 < float(x.std()) < 3
                assert float((x - x.mean(dim=0)).std()) > 0.03
