"""Explanations, against Zhou's map, brute force, and the position of the synthetic defect."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

import blemish.cli
from blemish.errors import DataError, OptionError
from blemish.imaging.read import read_image, write_image
from blemish.inspection.regions import regions_by_share
from blemish.training.explain import Explainer, find_layer, to_feature_map, with_fine_map
from blemish.training.train import load_method, train


def picture(kind, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(128, 6, (96, 96))
    x, y = (int(v) for v in rng.integers(4, 68, 2))
    if kind != "good":
        image[y : y + 24, x : x + 24] += 90
    return image.clip(0, 255).astype(np.uint8)[..., None], (x, y, x + 24, y + 24)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small classifier of good and bright."""
    folder = tmp_path_factory.mktemp("explain")
    rows = ["image,label,split"]
    for i in range(40):
        kind = ("good", "bright")[i % 2]
        write_image(folder / f"{i}.png", picture(kind, i)[0])
        rows.append(f"{i}.png,{kind},{'val' if i >= 32 else 'train'}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    options = {"backbone": "compact", "weights": "random", "image_size": 192, "epochs": 10, "batch_size": 6}
    return train(
        folder / "data.csv", out=folder / "run", method="classifier", channels=1, progress=False,
        options={**options, "learning_rate": 4e-3}, trainer={"accelerator": "cpu"},
    )  # fmt: skip


def test_grad_cam_of_a_network_that_pools_is_its_class_map(run):
    """Selvaraju et al. 2017, section 3.1: for pooling and one linear layer the two are the same, up to their scale."""
    image, _ = picture("bright", 100)
    own = Explainer(run, "cam").explain(image, "bright")[0].heat_map
    gradient = Explainer(run, "grad-cam").explain(image, "bright")[0].heat_map
    assert np.corrcoef(own.ravel(), gradient.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("method", ["cam", "patch-transfer", "grad-cam", "grad-cam++", "hires-cam", "layer-cam"])
def test_the_map_points_at_the_defect(run, method):
    explainer = Explainer(run, method)
    hits = 0
    for seed in range(200, 206):
        image, (x0, y0, x1, y1) = picture("bright", seed)
        inspection, label = explainer.explain(image)
        assert label == "bright"
        assert inspection.heat_map.shape == (96, 96)
        assert np.isfinite(inspection.heat_map).all()
        y, x = np.unravel_index(inspection.heat_map.argmax(), (96, 96))
        hits += x0 - 8 <= x < x1 + 8 and y0 - 8 <= y < y1 + 8
    assert hits >= 5


@pytest.mark.parametrize("method", ["score-cam", "eigen-cam"])
def test_methods_that_need_no_gradient(run, method):
    inspection, _ = Explainer(run, method).explain(picture("bright", 200)[0])
    assert inspection.heat_map.shape == (96, 96)
    assert 0 <= inspection.heat_map.min() < inspection.heat_map.max() <= 1


@pytest.mark.parametrize(("head", "explained"), [("logistic", True), ("forest", False)])
def test_a_frozen_network_is_explained_where_its_classifier_has_a_gradient(run, tmp_path, head, explained):
    options = {"classifier": head, "image_size": 96, "weights": "random", "backbone": "resnet10t"}
    frozen = train(
        run.parent / "data.csv", out=tmp_path / "frozen", method="feature-classifier", options=options, progress=False,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip
    if not explained:
        with pytest.raises(OptionError, match="have no gradient; take ablation-cam, eigen-cam, score-cam"):
            Explainer(frozen, "grad-cam")
        return
    heat = Explainer(frozen, "grad-cam").explain(picture("bright", 100)[0], "bright")[0].heat_map
    assert heat.max() > heat.min()


def test_the_fine_map_of_a_run_has_the_coarse_one_in_it(tmp_path, run):
    """Of the same weights: scores do not change, and the coarse class map is every second point of the fine one."""
    options = {"backbone": "resnet10t", "weights": "random", "image_size": 192, "epochs": 1, "batch_size": 8}
    other = train(
        run.parent / "data.csv", out=tmp_path / "net", method="classifier", options=options, progress=False,
        trainer={"accelerator": "cpu"},
    )  # fmt: skip
    coarse = load_method(other).eval()
    fine = with_fine_map(coarse)
    images = torch.rand(2, coarse.channels, 192, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = coarse(images), fine(images)
    assert torch.equal(actual["class_scores"], expected["class_scores"])
    assert actual["class_map"].shape[-2:] == (12, 12)
    inner = np.s_[..., 2:-2, 2:-2]
    torch.testing.assert_close(actual["class_map"][..., ::2, ::2][inner], expected["class_map"][inner])
    assert Explainer(other, "cam").maps(images.numpy(), 0).shape == (2, 12, 12)


def test_a_network_without_a_finer_stride_keeps_its_map(run):
    network = load_method(run)
    assert with_fine_map(network) is network


def test_the_last_map_on_the_way_to_the_scores_is_found():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.aside = (torch.nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

        def forward(self, images):
            seen = self.second(self.first(images))
            return {"class_scores": seen.mean(dim=(2, 3)).softmax(dim=1), "mask_scores": self.aside(seen)}

    network = Two()
    example = torch.rand(1, 1, 8, 8)
    assert find_layer(network, example) is network.second
    assert find_layer(network, example, "first") is network.first
    with pytest.raises(OptionError, match="unknown layer 'third'"):
        find_layer(network, example, "third")
    assert to_feature_map(torch.rand(2, 1 + 9, 5)).shape == (2, 5, 3, 3)


def test_a_class_without_a_map_is_refused(run, monkeypatch):
    image, _ = picture("bright", 300)
    with pytest.raises(OptionError, match="cam shows what speaks against good"):
        Explainer(run, "cam").explain(image, "good")
    explainer = Explainer(run, "patch-transfer")
    assert np.ptp(explainer.explain(image, "good")[0].heat_map) > 0
    explainer.patches = dataclasses.replace(explainer.patches, trained=())
    with pytest.raises(OptionError, match="no training image is of class 'bright'"):
        explainer.explain(image, "bright")


@pytest.mark.parametrize("method", ["cam", "grad-cam"])
def test_an_empty_map_is_said(run, method, caplog):
    explainer = Explainer(run, method)
    for kind in ("good", "bright"):
        caplog.clear()
        heat = explainer.explain(picture(kind, 300)[0], "bright")[0].heat_map
        said = [line for line in caplog.messages if "finds nothing that speaks for 'bright'" in line]
        assert (len(said), float(heat.max()) == 0) == ((1, True) if kind == "good" else (0, False))


def test_boxes_by_a_share_of_the_peak():
    heat = np.zeros((20, 30), np.float32)
    heat[2:6, 3:9] = 1
    heat[10:14, 20:24] = 0.4
    assert [region.box for region in regions_by_share(heat, 0.5, "d")] == [(3, 2, 9, 6)]
    assert [region.box for region in regions_by_share(heat, 0.3, "d")] == [(3, 2, 9, 6), (20, 10, 24, 14)]
    assert regions_by_share(np.full((5, 5), 3, np.float32), 0.5, "d") == []


def test_on_the_command_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"explain": "Judge", "inspect": "Inspect"})
    image, (x0, y0, x1, y1) = picture("bright", 300)
    write_image(tmp_path / "in" / "a.png", image)
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", "explain", str(run), *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            blemish.cli.main()
        return done.value.code, capsys.readouterr().err

    code, said = call(tmp_path / "in", tmp_path / "out", "--method", "cam")
    assert code == 2  # b.png
    assert "b.png" in said
    found = json.loads((tmp_path / "out" / "boxes.json").read_text())
    assert [entry["class"] for entry in found] == ["bright"]
    bx0, by0, bx1, by1 = found[0]["boxes"][0]
    assert bx0 < (x0 + x1) / 2 < bx1
    assert by0 < (y0 + y1) / 2 < by1
    assert read_image(tmp_path / "out" / "a.png").shape == (96, 96, 3)
    assert call(tmp_path / "in" / "a.png", tmp_path / "good", "--class", "good")[0] == 0
    for arguments, words in [
        ((tmp_path / "in",), "IMAGES… OUT"),
        ((tmp_path / "in" / "a.png", tmp_path / "in"), "would be overwritten"),
        ((tmp_path / "in", tmp_path / "o", "--method", "grad"), "is not one of"),
        ((tmp_path / "in", tmp_path / "o", "--class", "crack"), "unknown class 'crack'"),
        ((tmp_path / "in", tmp_path / "o", "--layer", "nope"), "unknown layer 'nope'"),
    ]:
        code, said = call(*arguments)
        assert code == 2
        assert words in said.replace("\n", " ")


def test_a_run_without_class_scores(tiny_data, tmp_path):
    folder = train(
        tiny_data.folder / "mvtec", out=tmp_path / "run", method="padim", progress=False,
        options={"image_size": 64, "dimensions": 10}, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    with pytest.raises(DataError, match="no class scores"):
        Explainer(folder)
