"""GANomaly's scores."""

import pytest
import torch

SIZE = 64


def test_latent_score_is_the_distance_of_the_codes(make_method):
    method = make_method("ganomaly", score="latent")
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        first = method.encoder(images)
        second = method.second_encoder(method.decoder(first))
        torch.testing.assert_close(method(images)["anomaly_score"], (first - second).abs().flatten(1).mean(dim=1))


def test_score_grows_with_the_defect(make_method):
    """The decoder knows one good image; the more of a defect there is, the further the codes lie apart."""
    method = make_method("ganomaly", score="latent")
    good = torch.rand(1, 3, SIZE, SIZE)
    method.decoder.forward = lambda code: good.expand(len(code), -1, -1, -1)
    method.second_encoder = method.encoder
    spot = torch.zeros_like(good)
    spot[:, :, 20:40, 20:40] = 0.5
    with torch.inference_mode():
        scores = method(torch.cat([good + strength * spot for strength in (0, 0.25, 0.5, 1)]))["anomaly_score"]
    assert float(scores[0]) == pytest.approx(0, abs=1e-6)
    assert float(scores.diff().min()) > 1e-6
