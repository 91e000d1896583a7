"""The cascade's two questions: what each head is trained on, when, and how their answers come together."""

import pytest
import torch

from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.methods.classification.cascade import Cascade, CascadeOptions
from blemish.methods.classification.classifier import Classifier, ClassifierOptions

CLASSES = ("good", "crack", "pit", "stain")


@pytest.fixture
def cascade():
    torch.manual_seed(0)
    options = CascadeOptions(
        backbone="resnet10t", weights="random", image_size=32, first_epochs=3, head_epochs=2, part_epochs=1,
        whole_epochs=2, freeze=0.25, dropout=0.0,
    )  # fmt: skip
    return Cascade(options, CLASSES)


def at_epoch(cascade, epoch, monkeypatch):
    monkeypatch.setattr(Cascade, "current_epoch", property(lambda _: epoch))
    monkeypatch.setattr(cascade, "log", lambda *_, **__: None, raising=False)


def test_a_kind_is_as_likely_as_a_defect_times_the_kind_among_defects(cascade):
    cascade.eval()
    cascade.temperature.fill_(1.0)
    images = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        vectors, _ = cascade.trunk(images)
        first, second = cascade.first(vectors).softmax(dim=1), cascade.second(vectors).softmax(dim=1)
        found = cascade(images)["class_scores"]
    torch.testing.assert_close(found[:, 0], first[:, 0])
    torch.testing.assert_close(found[:, 1:], first[:, 1:] * second)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("epoch", "share"), [(0, 0.25), (2, 0.25), (3, 1.0), (4, 1.0), (5, 2 / 3), (6, 0.25), (7, 0.25)]
)
def test_the_network_thaws_from_its_end(cascade, monkeypatch, epoch, share):
    at_epoch(cascade, epoch, monkeypatch)
    cascade.frozen_first = 0.25
    assert cascade.frozen_share == share
    cascade.on_train_batch_start({}, 0)
    learns = [parameter.requires_grad for parameter in cascade.trunk.network.parameters()]
    assert learns == sorted(learns)  # what stays comes first
    assert learns.count(False) == pytest.approx(share * len(learns), abs=1)


def gradients(cascade, labels):
    cascade.zero_grad()
    cascade.training_step({"image": torch.rand(len(labels), 3, 32, 32), "label": torch.tensor(labels)}, 0).backward()
    return [head.weight.grad is not None and bool(head.weight.grad.any()) for head in (cascade.first, cascade.second)]


def test_good_images_and_the_first_phase_leave_the_second_head_alone(cascade, monkeypatch):
    cascade.train()
    at_epoch(cascade, 2, monkeypatch)
    assert gradients(cascade, [0, 1, 2, 3]) == [True, False]
    at_epoch(cascade, 3, monkeypatch)
    assert gradients(cascade, [0, 1, 2, 3]) == [True, True]
    assert gradients(cascade, [0, 0, 0, 0]) == [True, False]
    assert gradients(cascade, [0, 0, -1, 1]) == [True, True]


@pytest.mark.parametrize("labels", [["good", "pit"], ["crack", "pit"]])
def test_without_good_or_with_one_kind_there_are_no_two_questions(labels):
    classes = tuple(labels)
    method = Cascade(CascadeOptions(backbone="compact", image_size=32), classes)
    data = Dataset(tuple(Sample(f"{i}.png", label) for i, label in enumerate(labels * 3)), "x", "csv")
    with pytest.raises(DataError, match="use the method classifier"):
        method.before_training(data)


def test_a_batch_of_one_image_is_trained_on(cascade, monkeypatch):
    at_epoch(cascade, 3, monkeypatch)
    cascade.train()
    assert gradients(cascade, [2]) == [True, True]
    options = {"backbone": "resnet10t", "weights": "random", "image_size": 32}
    classifier = Classifier(ClassifierOptions(**options), CLASSES).train()
    monkeypatch.setattr(classifier, "log", lambda *_, **__: None, raising=False)
    classifier.training_step({"image": torch.rand(1, 3, 32, 32), "label": torch.tensor([2])}, 0).backward()
    assert classifier.head.weight.grad.any()
