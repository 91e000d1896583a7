"""f-AnoGAN's score and its two stages."""

import torch

SIZE = 64


def test_image_score_is_residual_and_feature_distance(make_method):
    method = make_method("f-anogan", score="image", feature_weight=0.5)
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        drawn = method.generator(method.encoder(images))
        by_image = (images - drawn).square().flatten(1).mean(dim=1)
        by_features = (method.features(images) - method.features(drawn)).square().flatten(1).mean(dim=1)
        torch.testing.assert_close(method(images)["anomaly_score"], by_image + 0.5 * by_features)


def test_gan_is_frozen_while_the_encoder_trains(make_method, train_method):
    method = make_method("f-anogan", gan_steps=2, steps=3)
    start = {key: value.clone() for key, value in method.state_dict().items()}
    images = torch.rand(8, 3, SIZE, SIZE)
    train_method(method, images, max_steps=method.gan_total)
    drawn = {key: value.clone() for key, value in method.state_dict().items()}
    moved = {key.split(".")[0] for key in start if not torch.equal(start[key], drawn[key])}
    assert moved == {"generator", "features", "last"}
    # 2 steps of the generator, each after 5 of the critic
    assert int(drawn["generator.1.num_batches_tracked"]) == 12

    fresh = make_method("f-anogan", gan_steps=2, steps=3)
    trainer = train_method(fresh, images)
    assert trainer.global_step == 2 * (5 + 1) + 3
    end = fresh.state_dict()
    for key, value in drawn.items():
        part = key.split(".")[0]
        if part in ("generator", "features", "last"):
            assert torch.equal(end[key], value), key
    assert not torch.equal(end["encoder.0.0.weight"], drawn["encoder.0.0.weight"])
