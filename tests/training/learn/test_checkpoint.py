"""An interrupted training resumes where it was: no step is repeated and none is lost."""

from contextlib import suppress
from datetime import timedelta

import pytest
import torch

from blemish.methods.catalogue import method_class
from blemish.training.learn import fit as fitting
from blemish.training.learn.options import check_options
from blemish.training.learn.run import RunConfig

# With the calls of `training_step` that a whole training makes, and the one at which it is cut off: of methods that
# learn in several phases, where the last one has begun.
COMPACT = {"backbone": "compact", "batch_size": 8}
CASES = {
    "deep-svdd": ({"pretrain_steps": 2, "steps": 3, "width": 4, "batch_size": 8}, 5, 4),
    "efficientad": ({"distill_steps": 2, "steps": 3, "width": 0.1, "backbone": "test_resnet"}, 5, 4),
    "f-anogan": ({"gan_steps": 1, "steps": 3, "width": 4, "batch_size": 8}, 8, 7),
    "aae": ({"steps": 4, "width": 4, "batch_size": 8}, 4, 2),
    "ganomaly": ({"steps": 4, "width": 4, "batch_size": 8}, 4, 2),
    "segan": ({"steps": 4, "width": 4, "critic_width": 2, "backbone": "test_resnet"}, 4, 2),
    "cascade": ({**COMPACT, "first_epochs": 1, "head_epochs": 1, "part_epochs": 0, "whole_epochs": 1}, 12, 10),
    "yolo": ({"steps": 4, "backbone": "test_resnet", "width": 16, "batch_size": 8}, 4, 2),
}  # fmt: skip
SMALL = {"steps": 4, "batch_size": 8}
CASES |= {
    name: ({**SMALL, **options}, 4, 3)
    for name, options in {
        "stfpm": {"backbone": "test_resnet"},
        "reverse-distillation": {"backbone": "test_resnet", "width": 8},
        "fastflow": {"backbone": "test_resnet"},
        "fcdd": {"backbone": "test_resnet"},
        "patch-svdd": {"patches": 1, "bank": 100, "image_size": 192},
        "siamese": {"backbone": "test_resnet", "gallery": 3},
        "dinomaly": {"backbone": "vit_tiny_patch16_224", "heads": 3},
        "supersimplenet": {"backbone": "test_resnet", "width": 8},
        "autoencoder": {"width": 4},
        "vae": {"width": 4},
        "denoising-autoencoder": {"width": 4},
        "deblurring": {"width": 4},
        "inpainting": {"width": 4},
        "draem": {"width": 4},
    }.items()
}


class CutOffError(Exception):
    pass


def config_of(name, given):
    return RunConfig(
        blemish="0", data="", method=name, trainer={"accelerator": "cpu"},
        options=check_options(method_class(name).Options, given, name).model_dump(mode="json"),
    )  # fmt: skip


def train_noting(config, dataset, run, note, fail_at=None):
    """`note` of the method before each of its steps, the last of them the one at which it is cut off, if it is."""
    method = fitting.build_method(config, dataset)
    step, noted = method.training_step, []

    def counted(*batch):
        noted.append(note(method))
        if len(noted) == fail_at:
            raise CutOffError
        return step(*batch)

    method.training_step = counted
    with suppress(CutOffError):
        fitting.fit(method, dataset, config, run=run)
    return noted


@pytest.mark.parametrize("name", CASES)
def test_goes_on_where_it_was(name, tiny_data, tmp_path, monkeypatch):
    options, calls, cut = CASES[name]
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", timedelta(0))
    given = {"image_size": 64, **options} | ({"weights": "random"} if "backbone" in options else {})
    config, dataset = config_of(name, given), tiny_data.dataset(method_class(name).info.requires)

    def weights(method):
        return {key: value.clone() for key, value in method.state_dict().items()}

    before, after = (train_noting(config, dataset, tmp_path, weights, at) for at in (cut, None))
    assert len(before) == cut
    assert len(after) == calls - cut + 1
    for key, value in before[-1].items():
        torch.testing.assert_close(after[0][key], value, msg=f"{key} was not kept")


# What is computed after the last step, and options.
FINISHED = {
    "deep-svdd": ("location_mean", CASES["deep-svdd"][0]),
    "patch-svdd": ("large_bank", CASES["patch-svdd"][0]),
    "siamese": ("gallery", CASES["siamese"][0]),
    "maml": ("weight", {"steps": 2, "final_steps": 2}),
    "matching": ("vectors", {"steps": 2}),
    "prototypical": ("prototypes", {"steps": 2}),
}


@pytest.mark.parametrize("name", FINISHED)
def test_cut_off_after_the_last_step_it_still_has_its_gallery_bank_or_means(name, tiny_data, tmp_path, monkeypatch):
    computed, options = FINISHED[name]
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", timedelta(0))
    kind = method_class(name)
    given = {"image_size": 64, **kind.info.smoke, **options}
    given |= {"backbone": "test_resnet", "weights": "random"} if "backbone" in kind.Options.model_fields else {}
    config, dataset = config_of(name, given), tiny_data.dataset(kind.info.requires)

    def learn(folder: str) -> dict[str, torch.Tensor]:
        method = fitting.build_method(config, dataset)
        fitting.fit(method, dataset, config, run=tmp_path / folder)
        return method.state_dict()

    def cut_off(*_):
        raise CutOffError

    whole = learn("whole")
    with monkeypatch.context() as patched:
        patched.setattr(kind, "finish_training", cut_off)
        with pytest.raises(CutOffError):
            learn("cut")
    resumed = learn("cut")
    assert whole[computed].any()
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, msg=f"{key} was not kept")


def test_layers_that_are_frozen_in_an_epoch_stay_so_when_it_is_resumed(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_EVERY", timedelta(0))
    options = {**COMPACT, "first_epochs": 1, "head_epochs": 1, "part_epochs": 1, "whole_epochs": 0, "image_size": 64}
    config, dataset = config_of("cascade", options), tiny_data.dataset(method_class("cascade").info.requires)

    def learning(method):
        return method.current_epoch, sum(p.requires_grad for p in method.trunk.network.parameters())

    before, after = (train_noting(config, dataset, tmp_path, learning, at) for at in (6, None))
    assert after[0] == before[-1] == (1, 0)  # within the epoch of the heads alone
    every = len(list(fitting.build_method(config, dataset).trunk.network.parameters()))
    expected = {0: every, 1: 0, 2: sum(i >= every * 2 / 3 for i in range(every))}
    assert all(count == expected[epoch] for epoch, count in before + after)
