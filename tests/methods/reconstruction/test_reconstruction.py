"""Every reconstruction method: its graph in each form, and the sides it takes."""

import numpy as np
import pytest
import torch

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.training.ship.export import export_graph

SIZE = 64


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoencoder", {"patch": 32, "loss": "l2"}),
        ("autoencoder", {"loss": "ssim"}),
        ("vae", {"score": "kl"}),
        ("vae", {"score": "gradient"}),
        ("ganomaly", {"score": "latent"}),
        ("f-anogan", {"patch": 32}),
        ("f-anogan", {"patch": 32, "score": "image"}),
    ],
)
def test_every_form_exports(name, options, make_method):
    method = make_method(name, **options)
    engine = open_engine(export_graph(method, InputSpec(channels=3, height=SIZE, width=SIZE)))
    for count in (1, 8):
        images = torch.rand(count, 3, SIZE, SIZE)
        with torch.inference_mode():
            expected = method(images)
        shipped = engine.run(images.numpy())
        for kind, value in expected.items():
            np.testing.assert_allclose(getattr(shipped, kind), value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {"image_size": 100}),
        ("autoencoder", {"patch": 100}),
        ("autoencoder", {"patch": 8}),
        ("aae", {"image_size": 48}),
    ],
)
def test_sides_that_cannot_be_halved_are_refused(name, options, make_method):
    with pytest.raises(OptionError, match=r"power of two|larger|at least"):
        make_method(name, **options)
