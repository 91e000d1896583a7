"""Starting from another run: what is found in common, and what stays put during the linear probe."""

import pytest
import torch
from safetensors.torch import load_file

from blemish.errors import OptionError
from blemish.training.fit import train
from blemish.training.run import weights_file
from blemish.training.transfer import LinearProbe, shared, start_from

NET = {"backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 8}


@pytest.fixture(scope="module")
def first(tiny_data, tmp_path_factory):
    return train(
        tiny_data.folder / "labelled.csv", out=tmp_path_factory.mktemp("first") / "run", method="prototypical",
        options={**NET, "strides": [4, 8, 16, 32], "steps": 2}, progress=False, tell=str,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip


def test_a_common_network_is_found_whatever_it_is_called():
    ours = {
        "net.encoder.conv.weight": torch.ones(2, 3),
        "net.encoder.norm.bias": torch.ones(3),
        "head.weight": torch.ones(9),
    }
    theirs = {"trunk.conv.weight": torch.zeros(2, 3), "trunk.norm.bias": torch.zeros(3), "head.weight": torch.zeros(4)}
    found = shared(theirs, ours)
    assert set(found) == {"net.encoder.conv.weight", "net.encoder.norm.bias"}
    assert all((tensor == 0).all() for tensor in found.values())
    assert shared({"a.weight": torch.zeros(5)}, ours) == {}


def test_another_method_starts_from_the_run(first, tiny_data, tmp_path):
    options = {**NET, "steps": 2, "width": 8}
    run = train(
        tiny_data.folder / "labelled.csv", out=tmp_path / "unet", method="unet", options=options, progress=False,
        tell=str, trainer={"accelerator": "cpu"}, start=str(first), probe=0.99,
    )  # fmt: skip
    theirs, ours = load_file(weights_file(first)), load_file(weights_file(run))
    found = shared(theirs, ours)
    kernels = [name for name in found if ours[name].dim() == 4]
    assert len(kernels) > 5
    # All but the last of two steps were a probe, so the network is all but where it started.
    assert max(float((ours[name] - found[name]).abs().max()) for name in kernels) < 5e-3


def test_no_network_in_common_is_one_line(first, tmp_path):
    with pytest.raises(OptionError, match="not a run folder"):
        start_from(torch.nn.Linear(2, 2), tmp_path)
    with pytest.raises(OptionError, match="same backbone"):
        start_from(torch.nn.Linear(2, 2), first)


def test_probe_holds_and_lets_go():
    method = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))

    class Trainer:
        global_step = 0
        estimated_stepping_batches = 10

    probe, trainer = LinearProbe({"0.weight", "0.bias"}, 0.3), Trainer()
    probe.on_train_start(trainer, method)
    assert [p.requires_grad for p in method.parameters()] == [False, False, True, True]
    for step in range(5):
        trainer.global_step = step
        probe.on_train_batch_start(trainer, method, None, step)
        assert method[0].weight.requires_grad == (step >= 3)
