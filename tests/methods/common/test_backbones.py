"""Weights that are really there: the conversion recognises photographs, and nothing stays random unnoticed."""

import cv2
import pytest
import torch
from safetensors.torch import save_file
from skimage import data
from timm.data import ImageNetInfo

from blemish.errors import OptionError
from blemish.methods.common.backbones import DEFAULT_BACKBONE, load_backbone, load_network


@pytest.mark.parametrize(("photograph", "meaning"), [("chelsea", "cat"), ("coffee", "espresso")])
def test_embedded_weights_recognise_a_photograph(photograph, meaning):
    image = getattr(data, photograph)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    x = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
    network = load_network(DEFAULT_BACKBONE).eval()
    with torch.inference_mode():
        best = int(network((x - 0.5) / 0.5).argmax())
    assert meaning in ImageNetInfo().index_to_description(best)


def test_features_are_those_of_the_whole_network():
    backbone = load_backbone(strides=(4, 16)).eval()
    network = load_network(DEFAULT_BACKBONE).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        found = backbone(images)
        expected = network.forward_intermediates((images - 0.5) / 0.5, intermediates_only=True)
    assert [tuple(f.shape) for f in found] == [(2, 24, 16, 24), (2, 112, 4, 6)]
    torch.testing.assert_close(found[0], expected[1])
    torch.testing.assert_close(found[1], expected[3])


@pytest.mark.parametrize("channels", [1, 6])  # six: the three filters twice, at half weight
def test_other_channel_counts_keep_the_learned_filters(channels):
    backbone = load_backbone(channels=channels).eval()
    grey = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        found = backbone(grey.repeat(1, channels, 1, 1))[0]
        expected = load_backbone().eval()(grey.repeat(1, 3, 1, 1))[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_is_loaded_whole_or_not_at_all(tmp_path, suffix):
    state = load_network("resnet18", weights="random").state_dict()
    path = tmp_path / f"weights{suffix}"
    write = save_file if suffix == ".safetensors" else torch.save
    write(state, path)
    loaded = load_network("resnet18", weights=str(path)).state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in state)

    del state["layer3.0.conv1.weight"]
    write(state, path)
    with pytest.raises(OptionError, match=r"1 of \d+ tensors would stay unloaded, such as layer3.0.conv1.weight"):
        load_network("resnet18", weights=str(path))


def test_code_in_a_weights_file_is_never_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"weight": Harmful()}, tmp_path / "evil.pth")
    with pytest.raises(OptionError, match="not a readable weights file"):
        load_network("resnet18", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no_such_net"}, "there is no network 'no_such_net'"),
        ({"strides": (3,)}, "no features at stride 3"),
        ({"weights": "nowhere.pth"}, "nor a file that exists"),
        ({"name": "resnet18", "weights": "embedded"}, "no embedded weights"),
    ],
)
def test_clear_errors(arguments, message):
    with pytest.raises(OptionError, match=message):
        load_backbone(**arguments)
