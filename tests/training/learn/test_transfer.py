"""Starting from another run: what is found in common, and what stays put during the linear probe."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from blemish.errors import OptionError
from blemish.methods.catalogue import method_class
from blemish.training.learn.run import RunConfig, weights_file, write_config
from blemish.training.learn.transfer import (
    LinearProbe,
    load_shared_weights,
    match_by_name,
    pretrained_parameters,
    transferable_parameters,
)
from blemish.training.train import train

NET = {"backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 8}


@pytest.fixture(scope="module")
def first(tiny_data, tmp_path_factory):
    return train(
        tiny_data.folder / "labelled.csv", out=tmp_path_factory.mktemp("first") / "run", method="prototypical",
        options={**NET, "strides": [4, 8, 16, 32], "steps": 2}, progress=False,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip


def test_a_common_network_is_found_whatever_it_is_called():
    ours = {
        "net.encoder.conv.weight": torch.ones(2, 3),
        "net.encoder.norm.bias": torch.ones(3),
        "head.weight": torch.ones(9),
    }
    theirs = {"trunk.conv.weight": torch.zeros(2, 3), "trunk.norm.bias": torch.zeros(3), "head.weight": torch.zeros(4)}
    found = match_by_name(theirs, ours)
    assert set(found) == {"net.encoder.conv.weight", "net.encoder.norm.bias"}
    assert all((tensor == 0).all() for tensor in found.values())
    assert match_by_name({"a.weight": torch.zeros(5)}, ours) == {}


@pytest.mark.parametrize("probe", [0.99, 0.0])
def test_another_method_starts_from_the_run(probe, first, tiny_data, tmp_path):
    options = {**NET, "steps": 2, "width": 8}
    run = train(
        tiny_data.folder / "labelled.csv", out=tmp_path / "unet", method="unet", options=options, progress=False,
        trainer={"accelerator": "cpu"}, start=str(first), probe=probe,
    )  # fmt: skip
    theirs, ours = load_file(weights_file(first)), load_file(weights_file(run))
    found = match_by_name(theirs, ours)
    kernels = [name for name in found if ours[name].dim() == 4]
    assert len(kernels) > 5
    moved = max(float((ours[name] - found[name]).abs().max()) for name in kernels)
    assert moved < 1e-7 if probe else moved > 1e-5
    means = [name for name in found if name.endswith("running_mean")]
    assert len(means) > 5
    assert all(torch.equal(ours[name], found[name]) == bool(probe) for name in means)


@pytest.mark.parametrize(("name", "options", "fresh"), [
    ("classifier", {}, {"head.weight", "head.bias"}),
    ("unet", {"width": 4, "image_size": 64}, {"network.head.weight", "network.head.bias"}),
    ("prototypical", {"strides": (4, 8)}, set()),
])  # fmt: skip
def test_layers_of_the_classes_and_counts_begin_afresh_with_as_many_classes(name, options, fresh):
    kind = method_class(name)
    method = kind(kind.Options(backbone="test_resnet", weights="random", **options), ("good", "a", "b"))
    names = transferable_parameters(method)
    assert {n for n, _ in method.named_parameters()} - names == fresh
    left = {n for n, _ in method.named_buffers()} - names
    assert not any("running" in n for n in left)
    assert {"class_weights", "temperature", "prototypes", "counts"}.isdisjoint(names)


@pytest.mark.parametrize(("name", "some"), [("classifier", "trunk.network."), ("unet", "network.encoder.backbone.")])
def test_what_comes_from_imagenet_is_known(name, some):
    kind = method_class(name)
    names = pretrained_parameters(kind(kind.Options(image_size=32), ("good", "a")))
    assert len(names) > 50
    assert all(n.startswith(some) for n in names)
    for own in ({"weights": "random"}, {"backbone": {"classifier": "compact", "unet": "plain"}[name]}):
        assert pretrained_parameters(kind(kind.Options(image_size=32, **own), ("good", "a"))) == set()


def test_no_network_in_common_is_one_line(first, tmp_path):
    with pytest.raises(OptionError, match="not a run folder"):
        load_shared_weights(torch.nn.Linear(2, 2), tmp_path)
    with pytest.raises(OptionError, match="same backbone"):
        load_shared_weights(torch.nn.Linear(2, 2), first)


def test_probe_holds_and_lets_go():
    method = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))

    class Trainer:
        global_step = 0
        estimated_stepping_batches = 10

    probe, trainer = LinearProbe({"0.weight", "0.bias", "1.weight", "1.bias"}, 0.3), Trainer()
    method.train()
    for step in range(5):
        trainer.global_step = step
        if step == 1:  # a new epoch, at which a method may let learn what it likes
            probe.on_train_epoch_start(trainer, method)
            method.requires_grad_(True)
        probe.on_train_batch_start(trainer, method, None, step)
        assert [p.requires_grad for p in method.parameters()] == [step >= 3] * 4 + [True] * 2
        before = method[1].running_mean.clone()
        method(torch.rand(8, 2))
        assert torch.equal(before, method[1].running_mean) == (step < 3)


@pytest.mark.parametrize(
    ("name", "options"), [("patchcore", {}), ("classifier", {"weights": "random", "image_size": 32})]
)
def test_a_probe_of_nothing_is_refused(name, options, tiny_data, tmp_path):
    with pytest.raises(OptionError, match="has none that train"):
        train(tiny_data.folder / "labelled.csv", out=tmp_path / "run", method=name, options=options, probe=0.5)


def test_statistics_move_again_when_the_probe_ends_with_an_epoch():
    method = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1)).train()

    class Trainer:
        global_step = 0
        estimated_stepping_batches = 10

    probe, trainer = LinearProbe({"0.weight", "0.bias"}, 0.2), Trainer()
    probe.on_train_batch_start(trainer, method, None, 0)
    assert not method[0].training
    trainer.global_step = 2
    probe.on_train_epoch_start(trainer, method)
    probe.on_train_batch_start(trainer, method, None, 0)
    assert method[0].training
    assert method[0].weight.requires_grad


def test_a_flow_keeps_its_order_of_channels(tmp_path):
    """It is random: with another one the loaded flow is another function."""
    kind = method_class("fastflow")
    options = kind.Options(**{**kind.info.smoke, "backbone": "test_resnet", "weights": "random", "image_size": 64})
    methods = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        methods.append(kind(options, ("good", "defect")).eval())
        for parameter in methods[-1].flows.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # untrained couplings change nothing
    first, second = methods
    config = RunConfig(blemish="0", data="", method="fastflow", options=options.model_dump(mode="json"))
    write_config(tmp_path, config)
    save_file({name: tensor.contiguous() for name, tensor in first.state_dict().items()}, weights_file(tmp_path))
    maps = torch.rand(2, first.flows[0].order.shape[1], 8, 8)
    with torch.inference_mode():
        expected = first.flows[0](maps)[0]
        assert not torch.allclose(second.flows[0](maps)[0], expected, atol=0.1)
        load_shared_weights(second, tmp_path)
        torch.testing.assert_close(second.flows[0](maps)[0], expected)
