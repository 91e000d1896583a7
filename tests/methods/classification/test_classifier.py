"""The classifier: learning rates by layer, multi-label training, early stopping."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blemish.dataset.read import read_dataset
from blemish.evaluation.evaluate import evaluate
from blemish.imaging.read import write_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import InputSpec
from blemish.methods.classification.class_balance import (
    class_balanced_weights,
    class_counts,
)
from blemish.methods.classification.classifier import Classifier, ClassifierOptions, make_trunk
from blemish.training.learn.data import ImageItems, View
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.run import RunConfig
from blemish.training.learn.supervision import has_annotation
from blemish.training.train import train


def test_learning_rates_rise_by_layer_and_frozen_layers_have_none():
    trunk = make_trunk(ClassifierOptions(backbone="test_resnet", weights="random", image_size=64, freeze=0.5), 3)
    rates = [rate for _, rate in trunk.layers(0.1)]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (pytest.approx(0.1), 1)  # random weights are never frozen
    trunk.freeze(0.5, norms=True)
    left = trunk.layers(0.1)
    assert len(left) == pytest.approx(len(rates) / 2, abs=1)
    assert left[0][1] == pytest.approx(0.1**0.5, rel=0.1)
    norms = [m for m in trunk.train().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)


SIDE = 32


PLACES = {"bright": (4, 4, 250), "dark": (18, 18, 5)}


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory):
    """Images with a bright square, a dark one, both or none; the CSV lists both with | between the classes."""
    folder = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    rows = ["image,label,split"]
    for i in range(48):
        kinds = (["bright"], ["dark"], ["bright", "dark"], [])[i % 4]
        image = rng.normal(128, 8, (SIDE, SIDE)).clip(0, 255)
        for kind in kinds:
            x, y, grey = PLACES[kind]
            image[y : y + 10, x : x + 10] = grey
        write_image(folder / f"{i}.png", image.astype(np.uint8))
        rows.append(f"{i}.png,{'|'.join(kinds) or 'good'},{'val' if i >= 36 else 'train'}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


def config(data, **options) -> RunConfig:
    options = {"backbone": "compact", "image_size": SIDE, "batch_size": 8, **options}
    checked = ClassifierOptions(**options).model_dump(mode="json")
    return RunConfig(blemish="0", data=str(data), method="classifier", options=checked, trainer={"accelerator": "cpu"})


def test_multi_label_training(multi_label, tmp_path):
    data = read_dataset(multi_label)
    assert data.classes == ("good", "bright", "dark")
    assert data.samples[2].labels == ("bright", "dark")
    assert data.samples[2].defective
    settings = config(multi_label, multi_label=True, epochs=12, learning_rate=5e-3, flip=False, turn=False)
    method = build_method(settings, data)
    fit(method, data, settings, run=tmp_path / "run")
    view = View(InputSpec(channels=3, height=SIDE, width=SIDE))
    items = [ImageItems(data.split("val"), view, method.classes, annotations=("label",))[i] for i in range(4)]
    with torch.inference_mode():
        scores = method.eval()(torch.stack([item["image"] for item in items]))["class_scores"]
    expected = [[0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0]]
    assert (scores > 0.5).int().tolist() == expected
    assert [[int(not item["present"].any()), *item["present"].int().tolist()] for item in items] == expected


def test_multi_label_evaluation_by_class(multi_label, tmp_path):
    settings = config(multi_label, multi_label=True, epochs=12, learning_rate=5e-3, flip=False, turn=False)
    run = train(str(multi_label), out=tmp_path / "run", method="classifier", options=settings.options, progress=False)
    metrics = evaluate(Inspector.open(run), read_dataset(multi_label).split("val"), speed=False).to_dict()["labels"]
    assert metrics["classes"] == ["bright", "dark"]
    assert metrics["exact"]["value"] == metrics["micro_f1"] == metrics["macro_ap"] == 1.0
    assert metrics["recall"]["dark"]["n"] == 6  # of twelve images, three show it alone and three with the other


def test_images_with_several_classes_have_no_label_without_multi_label(multi_label):
    data = read_dataset(multi_label)
    both = data.samples[2]
    assert not has_annotation(both, "label")
    assert has_annotation(both, "label", multi_label=True)
    assert class_counts(data, data.classes) == [12, 12, 12]
    assert class_counts(data, data.classes, multi_label=True) == [12, 24, 24]
    np.testing.assert_allclose(
        class_balanced_weights(data, data.classes, multi_label=True)[:4], [1 / 24, 1 / 24, 1 / 24, 1 / 12]
    )


def test_images_of_unknown_class_have_no_loss(multi_label):
    method = Classifier(ClassifierOptions(backbone="compact", image_size=SIDE, multi_label=True), ("good", "a", "b"))
    batch = {"label": torch.tensor([-1]), "has_label": torch.tensor([False]), "present": torch.zeros(1, 2).bool()}
    assert method.loss(torch.randn(1, 2), batch) == 0


def test_training_stops_early_without_gain(multi_label, tmp_path):
    data = read_dataset(multi_label).where(lambda s: s.label is not None)
    settings = config(multi_label, epochs=12, patience=1, learning_rate=1e-9)
    tuned = data.with_samples(replace(s, split="tuning") if s.split == "val" else s for s in data.samples)
    trainer = fit(build_method(settings, tuned), tuned, settings, run=tmp_path / "run")
    assert trainer.current_epoch < 12
    without = data.with_samples(data.split("train").samples)
    settings = config(multi_label, epochs=2, patience=1)
    assert fit(build_method(settings, without), without, settings, run=tmp_path / "other").current_epoch == 2
