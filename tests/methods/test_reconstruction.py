"""What is peculiar to methods that rebuild the image from a bottleneck."""

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from blemish.errors import OptionError
from blemish.inspection.engines import open_engine
from blemish.inspection.manifest import InputSpec
from blemish.methods.catalogue import method_class
from blemish.methods.common.blocks import PatchGrid, decoder, encoder
from blemish.methods.common.losses import kl_to_standard_normal
from blemish.training.ship.export import export_graph

SIZE = 64
CLASSES = ("good", "defect")


def make(name: str, **options):
    torch.manual_seed(0)
    kind = method_class(name)
    method = kind(kind.Options(**{"image_size": SIZE, "width": 8, **options}), CLASSES)
    for module in method.modules():  # as after training: statistics of their own
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return method.eval()


def learn(method, images: torch.Tensor, **trainer) -> L.Trainer:
    items = [{"image": x, "valid": torch.ones(x.shape[-2:], dtype=torch.bool)} for x in images]
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, **{**method.trainer_options(), **trainer},
    )  # fmt: skip
    torch.manual_seed(1)
    trainer.fit(method.train(), DataLoader(items, batch_size=4))
    return trainer


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
def test_every_form_exports(name, options):
    method = make(name, **options)
    engine = open_engine(export_graph(method, InputSpec(channels=3, height=SIZE, width=SIZE)))
    for count in (1, 8):
        images = torch.rand(count, 3, SIZE, SIZE)
        with torch.inference_mode():
            expected = method(images)
        shipped = engine.run(images.numpy())
        for kind, value in expected.items():
            np.testing.assert_allclose(getattr(shipped, kind), value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))


def test_elbo_gradient_is_that_of_autograd():
    method = make("vae").double()
    images = torch.rand(3, 3, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    mean, log_variance = method.posterior(images)
    misfit = 0.5 * (images - method.rebuilt(mean)).square().sum() / method.options.deviation**2
    loss = misfit + kl_to_standard_normal(mean, log_variance).sum()
    (expected,) = torch.autograd.grad(loss, images)
    torch.testing.assert_close(method.elbo_gradient(images.detach()), expected)


def test_kl_score_is_zero_of_a_code_that_is_the_prior():
    method = make("vae", score="kl")
    last = method.encoder[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert method(torch.rand(2, 3, SIZE, SIZE))["anomaly_score"].abs().max() < 1e-6
    nn.init.constant_(last.bias[: method.options.dimensions], 2.0)
    torch.testing.assert_close(
        method(torch.rand(2, 3, SIZE, SIZE))["anomaly_score"], torch.full((2,), 2.0 * method.options.dimensions)
    )


@pytest.mark.parametrize(("size", "side"), [(64, 0), (64, 64), (64, 32), (100, 32), (70, 64)])
def test_patches_cover_and_fit_together_again(size, side):
    patches = PatchGrid(size, side)
    images = torch.rand(3, 1, size, size)
    parts = patches.split(images)
    assert parts.shape == (3 * len(patches.corners), 1, patches.side, patches.side)
    torch.testing.assert_close(patches.join(parts[:, 0]), images[:, 0])


def test_random_patches_of_image_and_mask_are_of_the_same_place():
    images = torch.rand(6, 3, 40, 40)
    cut, marks = PatchGrid(40, 16).random(images, images[:, 0] > 0.5)
    assert cut.shape == (6, 3, 16, 16)
    assert torch.equal(cut[:, 0] > 0.5, marks)
    assert len({float(c[0, 0, 0]) for c in cut}) == 6


@pytest.mark.parametrize("size", [16, 64, 128])
def test_decoder_mirrors_encoder(size):
    images = torch.rand(2, 3, size, size)
    code = encoder(3, size, 4, 10)(images)
    assert code.shape == (2, 10, 1, 1)
    rebuilt = decoder(10, 3, size, 4)(code)
    assert rebuilt.shape == images.shape
    assert rebuilt.min() >= 0
    assert rebuilt.max() <= 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vae", {"image_size": 100}),
        ("autoencoder", {"patch": 100}),
        ("autoencoder", {"patch": 8}),
        ("aae", {"image_size": 48}),
    ],
)
def test_sides_that_cannot_be_halved_are_refused(name, options):
    with pytest.raises(OptionError, match=r"power of two|larger|at least"):
        make(name, **options)


def test_ganomaly_scores_the_distance_of_the_codes():
    method = make("ganomaly", score="latent")
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        first = method.encoder(images)
        second = method.encoder_again(method.decoder(first))
        torch.testing.assert_close(method(images)["anomaly_score"], (first - second).abs().flatten(1).mean(dim=1))


def test_ganomaly_scores_a_defect_above_good_where_its_code_is_not_found_again():
    """The decoder knows one good image; the more of a defect there is, the further the codes lie apart."""
    method = make("ganomaly", score="latent")
    good = torch.rand(1, 3, SIZE, SIZE)
    method.decoder.forward = lambda code: good.expand(len(code), -1, -1, -1)
    method.encoder_again = method.encoder
    spot = torch.zeros_like(good)
    spot[:, :, 20:40, 20:40] = 0.5
    with torch.inference_mode():
        scores = method(torch.cat([good + strength * spot for strength in (0, 0.25, 0.5, 1)]))["anomaly_score"]
    assert float(scores[0]) == pytest.approx(0, abs=1e-6)
    assert float(scores.diff().min()) > 1e-6


def test_f_anogan_scores_residual_and_features_of_the_whole_image():
    method = make("f-anogan", score="image", feature_weight=0.5)
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        drawn = method.generator(method.encoder(images))
        by_image = (images - drawn).square().flatten(1).mean(dim=1)
        by_features = (method.features(images) - method.features(drawn)).square().flatten(1).mean(dim=1)
        torch.testing.assert_close(method(images)["anomaly_score"], by_image + 0.5 * by_features)


def test_f_anogan_freezes_the_gan_while_the_encoder_learns():
    method = make("f-anogan", gan_steps=2, steps=3)
    start = {key: value.clone() for key, value in method.state_dict().items()}
    images = torch.rand(8, 3, SIZE, SIZE)
    learn(method, images, max_steps=method.gan_total)
    drawn = {key: value.clone() for key, value in method.state_dict().items()}
    moved = {key.split(".")[0] for key in start if not torch.equal(start[key], drawn[key])}
    assert moved == {"generator", "features", "verdict"}
    # 2 steps of the generator, each after 5 of the critic
    assert int(drawn["generator.1.num_batches_tracked"]) == 12

    fresh = make("f-anogan", gan_steps=2, steps=3)
    trainer = learn(fresh, images)
    assert trainer.global_step == 2 * (5 + 1) + 3
    end = fresh.state_dict()
    for key, value in drawn.items():
        part = key.split(".")[0]
        if part in ("generator", "features", "verdict"):
            assert torch.equal(end[key], value), key
    assert not torch.equal(end["encoder.0.0.weight"], drawn["encoder.0.0.weight"])


def test_aae_pushes_codes_towards_the_prior():
    torch.manual_seed(0)
    images = torch.rand(16, 3, SIZE, SIZE)
    method = make("aae", steps=60, dimensions=4, learning_rate=2e-3)
    nn.init.constant_(method.encoder[-1].bias, 3.0)  # far off the prior's mean of zero
    with torch.inference_mode():
        before = method.train().encoder(images).mean()
    learn(method, images)
    with torch.inference_mode():
        after = method.train().encoder(images).mean()
    assert before > 2
    assert after < before - 0.5


def test_the_autoencoder_begins_with_all_its_layers_awake():
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
