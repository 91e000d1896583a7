"""The parts of classifiers: heads against scikit-learn's own decisions, losses, calibration, networks by name."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.evaluation.evaluate import evaluate
from blemish.imaging.read import write_image
from blemish.inspection.engines import open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import InputSpec
from blemish.methods.classification import classical
from blemish.methods.classification.class_balance import (
    class_balanced_weights,
    class_counts,
    effective_number_weights,
    prior_correction,
)
from blemish.methods.classification.classifier import Classifier, ClassifierOptions, make_trunk
from blemish.methods.classification.losses import (
    class_activation_map,
    multi_label_probabilities,
    sigmoid_loss,
    softmax_loss,
)
from blemish.methods.classification.networks import MinSizePool, Trunk
from blemish.methods.classification.temperature import fit_binary_temperature, fit_temperature
from blemish.training.learn.data import ImageItems, View
from blemish.training.learn.fit import build_method, fit
from blemish.training.learn.run import RunConfig
from blemish.training.learn.supervision import has_annotation
from blemish.training.ship.export import export_graph
from blemish.training.train import train


def clusters(classes: int, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(60) % classes
    return (rng.normal(0, spread, (60, 5)) + 2 * np.eye(5)[y]).astype(np.float32), y


def rings() -> tuple[np.ndarray, np.ndarray]:
    """One class inside the other: no plane tells them apart."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 80), np.where(y, 2.0, 0.5) + rng.normal(0, 0.1, 80)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 4])
class TestHeads:
    def test_linear(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        scores = classical.logistic(x, y, 0, cost=0.5)(torch.from_numpy(new))
        known = LogisticRegression(C=0.5, class_weight="balanced", max_iter=500).fit(x, y)
        np.testing.assert_allclose(scores.softmax(dim=1), known.predict_proba(new), atol=1e-5)
        scores = classical.gaussian(x, y, 0)(torch.from_numpy(new))
        known = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
        np.testing.assert_allclose(scores.softmax(dim=1), known.fit(x, y).predict_proba(new), atol=1e-4)
        scores = classical.linear_svm(x, y, 0, cost=0.1)(torch.from_numpy(new))
        known = LinearSVC(C=0.1, class_weight="balanced", random_state=0, dual="auto", max_iter=5000).fit(x, y)
        assert scores.argmax(dim=1).tolist() == known.predict(new).tolist()

    def test_kernel(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        scores = classical.rbf_svm(x, y, 0, cost=1.0, width=1.0)(torch.from_numpy(new))
        for k in range(classes):
            known = SVC(C=1.0, gamma=1 / 5, class_weight="balanced").fit(x, y == k)
            np.testing.assert_allclose(scores[:, k], known.decision_function(new), atol=1e-4)

    def test_neighbours(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        share = classical.neighbours(x, y, 0, count=5)(torch.from_numpy(new)).exp() - 1e-3
        known = KNeighborsClassifier(5, weights="distance").fit(x, y)
        np.testing.assert_allclose(share, known.predict_proba(new), atol=1e-3)

    def test_forest(self, classes):
        x, y = clusters(classes)
        new = clusters(classes, seed=1)[0]
        share = classical.forest(x, y, 3, trees=12)(torch.from_numpy(new)).exp() - 1e-3
        known = RandomForestClassifier(12, class_weight="balanced_subsample", min_samples_leaf=2, random_state=3)
        np.testing.assert_allclose(share, known.fit(x, y).predict_proba(new), atol=1e-5)


def test_the_classifier_is_chosen_by_cross_validation():
    x, y = rings()
    found = classical.select_classifier(x[:, None], y, ["linear-svm", "rbf-svm"], 4, seed=0)
    assert (found[0].name, found[-1].name) == ("rbf-svm", "linear-svm")
    assert found[0].macro_f1 > 0.95 > 0.7 > found[-1].macro_f1


def test_every_kind_is_tried_and_has_a_head():
    assert {"linear-svm", "rbf-svm", "logistic", "neighbours", "forest", "gaussian"} == set(classical.CLASSIFIERS)
    assert set(classical.HEADS) == set(classical.CLASSIFIERS)


def test_effective_number_goes_from_all_alike_to_inverse_counts():
    counts = [1000, 10, 100]
    torch.testing.assert_close(effective_number_weights(counts, 0.0), torch.ones(3))
    inverse = 1 / torch.tensor(counts, dtype=torch.float64)
    near = effective_number_weights(counts, 1 - 1e-7)
    torch.testing.assert_close(near, (3 * inverse / inverse.sum()).float(), rtol=1e-3, atol=0)


def labelled(*labels: str | None) -> Dataset:
    return Dataset(tuple(Sample(f"{i}.png", label) for i, label in enumerate(labels)), "x", "csv")


def test_too_few_classes_or_images_are_one_line():
    with pytest.raises(DataError, match="needs two classes in training or more, and there is 'pit' alone"):
        class_counts(labelled("pit", "pit"), ("pit",))
    with pytest.raises(DataError, match="class 'dent' has one training image; a classifier needs 2 or more"):
        class_counts(labelled("pit", "pit", "dent"), ("dent", "pit"))
    assert class_counts(labelled("pit", None, "pit", "good", "good"), ("good", "pit")) == [2, 2]


def test_the_sampler_draws_every_class_equally_often():
    data = labelled("good", "good", "good", "pit", None)
    np.testing.assert_allclose(class_balanced_weights(data, ("good", "pit")), [1 / 3, 1 / 3, 1 / 3, 1, 0])


def test_prior_shift_turns_posteriors_of_drawn_images_into_those_of_the_set():
    data, classes = labelled(*["good"] * 90, *["pit"] * 6, *["crack"] * 4), ("good", "pit", "crack")
    chances = [1.0 if sample.label == "good" else 5.0 for sample in data.samples]
    likelihood = torch.tensor([0.2, 0.7, 0.4])  # of some feature in each class; by Bayes' rule then:
    drawn = torch.tensor([90.0, 30.0, 20.0]) * likelihood
    there = torch.tensor([90.0, 6.0, 4.0]) * likelihood
    shifted = (drawn / drawn.sum()).log() + prior_correction(data, classes, chances)
    torch.testing.assert_close(shifted.softmax(dim=0), there / there.sum())
    assert prior_correction(data, classes, None).tolist() == [0, 0, 0]
    assert prior_correction(data, (*classes, "scratch"), chances)[3] == 0


def test_one_of_many_is_weighted_cross_entropy_of_known_images():
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 1, 2, -1, 1, -1]), torch.tensor([0.5, 1.0, 1.5])
    expected = F.cross_entropy(logits, labels, weights, ignore_index=-1)
    torch.testing.assert_close(softmax_loss(logits, labels, weights), expected)
    known = labels >= 0
    p = logits[known].softmax(dim=1).gather(1, labels[known][:, None])[:, 0]
    own = weights[labels[known]]
    focal = (-own * (1 - p) ** 2 * p.log()).sum() / own.sum()
    torch.testing.assert_close(softmax_loss(logits, labels, weights, gamma=2.0), focal)
    assert softmax_loss(logits, torch.full((6,), -1), weights) == 0


def test_each_alone_is_binary_cross_entropy():
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(5, 3), torch.rand(5, 3) < 0.4, torch.tensor([0.5, 1.0, 1.5])
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), weights.expand(5, -1))
    torch.testing.assert_close(sigmoid_loss(logits, targets, weights), expected)
    p = torch.where(targets, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(
        sigmoid_loss(logits, targets, weights, gamma=2.0), (-weights * (1 - p) ** 2 * p.log()).mean()
    )


def test_good_is_what_has_no_defect():
    found = multi_label_probabilities(torch.tensor([[0.0, 0.0], [9.0, -9.0]]), good=True)
    torch.testing.assert_close(found[0], torch.tensor([0.25, 0.5, 0.5]))
    assert found[1].argmax() == 1
    assert multi_label_probabilities(torch.zeros(1, 2), good=False).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("reference", [0, None])
def test_the_mean_of_the_class_map_is_what_the_classes_have_beyond_the_reference(reference):
    """Zhou et al. 2016: the score of a class is the mean of its map (and the bias)."""
    torch.manual_seed(0)
    maps, weight = torch.rand(2, 8, 5, 6), torch.randn(3, 8)
    scores = maps.mean(dim=(2, 3)) @ weight.T
    beyond = scores - (scores[:, :1] if reference == 0 else scores.mean(dim=1, keepdim=True))
    torch.testing.assert_close(class_activation_map(maps, weight, reference).mean(dim=(2, 3)), beyond)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_the_labels_were_drawn_at_is_found(temperature):
    torch.manual_seed(0)
    logits = 2 * torch.randn(4000, 4)
    labels = torch.distributions.Categorical(logits=logits / temperature).sample()
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)
    drawn = (torch.rand(4000, 4) < (logits / temperature).sigmoid()).float()
    assert fit_binary_temperature(logits, drawn) == pytest.approx(temperature, rel=0.1)
    assert fit_temperature(logits, torch.full((4000,), -1)) == 1


@pytest.mark.parametrize(
    ("name", "side", "pools"),
    [("alexnet", 64, False), ("vgg11", 32, False), ("googlenet", 64, True), ("inception_v3", 80, True),
     ("resnet10t", 64, True), ("compact", 64, True)],
)  # fmt: skip
def test_networks_by_name(name, side, pools):
    trunk = Trunk(name, "random", 1, side).eval()
    vectors, maps = trunk(torch.rand(2, 1, side, side))
    assert vectors.shape == (2, trunk.size)
    assert vectors.isfinite().all()
    assert (maps is not None) is pools
    if pools:
        torch.testing.assert_close(maps.mean(dim=(2, 3)), vectors, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("side", "expected"), [((6, 6), (7, 7)), ((5, 9), (7, 9)), ((8, 7), (8, 7))])
def test_small_maps_are_enlarged_as_timm_does_it(side, expected):
    maps = torch.rand(2, 3, *side)
    torch.testing.assert_close(MinSizePool(7)(maps), F.adaptive_avg_pool2d(maps, expected))


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet", "vgg11", "inception_v3")]


@pytest.mark.parametrize("name", [*LARGE, "googlenet", "resnet10t"])
def test_networks_of_every_family_ship_at_the_default_size(name):
    options = ClassifierOptions(backbone=name, weights="random")
    method = Classifier(options, ("good", "pit"), 3).eval()
    graph = export_graph(method, InputSpec(channels=3, height=options.image_size, width=options.image_size))
    images = torch.rand(2, 3, options.image_size, options.image_size)
    with torch.inference_mode():
        expected = method(images)["class_scores"]
    np.testing.assert_allclose(open_engine(graph).run(images.numpy()).class_scores, expected, atol=1e-4)


def test_the_compact_network_is_small():
    assert sum(p.numel() for p in Trunk("compact", "random", 3, 64).parameters()) < 500_000


def test_an_unknown_network_and_one_that_cannot_take_the_size_are_one_line():
    with pytest.raises(OptionError, match="no network 'alexnett'"):
        Trunk("alexnett", "random", 3, 64)
    with pytest.raises(OptionError, match="cannot take images of 32 px"):
        Trunk("alexnet", "random", 3, 32)


def test_layers_learn_at_rising_rates_and_frozen_ones_not_at_all():
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
    """Images with a bright square, a dark one, both or none; both are told by the CSV with | between the classes."""
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


def test_several_classes_of_an_image_are_learnt(multi_label, tmp_path):
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


def test_several_classes_of_an_image_are_judged_each_for_itself(multi_label, tmp_path):
    settings = config(multi_label, multi_label=True, epochs=12, learning_rate=5e-3, flip=False, turn=False)
    run = train(str(multi_label), out=tmp_path / "run", method="classifier", options=settings.options, progress=False)
    figures = evaluate(Inspector.open(run), read_dataset(multi_label).split("val"), speed=False).to_dict()["labels"]
    assert figures["classes"] == ["bright", "dark"]
    assert figures["exact"]["value"] == figures["micro_f1"] == figures["macro_ap"] == 1.0
    assert figures["recall"]["dark"]["n"] == 6  # of twelve images, three show it alone and three with the other


def test_one_class_alone_is_learnt_where_several_are_not_asked_for(multi_label):
    data = read_dataset(multi_label)
    both = data.samples[2]
    assert not has_annotation(both, "label")
    assert has_annotation(both, "label", multi_label=True)
    assert class_counts(data, data.classes) == [12, 12, 12]
    assert class_counts(data, data.classes, multi_label=True) == [12, 24, 24]
    np.testing.assert_allclose(
        class_balanced_weights(data, data.classes, multi_label=True)[:4], [1 / 24, 1 / 24, 1 / 24, 1 / 12]
    )


def test_images_of_unknown_classes_teach_nothing(multi_label):
    method = Classifier(ClassifierOptions(backbone="compact", image_size=SIDE, multi_label=True), ("good", "a", "b"))
    batch = {"label": torch.tensor([-1]), "has_label": torch.tensor([False]), "present": torch.zeros(1, 2).bool()}
    assert method.loss(torch.randn(1, 2), batch) == 0


def test_training_stops_early_where_nothing_is_gained(multi_label, tmp_path):
    data = read_dataset(multi_label).where(lambda s: s.label is not None)
    settings = config(multi_label, epochs=12, patience=1, learning_rate=1e-9)
    trainer = fit(build_method(settings, data), data, settings, run=tmp_path / "run")
    assert trainer.current_epoch < 12
    without = data.with_samples(data.split("train").samples)
    settings = config(multi_label, epochs=2, patience=1)
    assert fit(build_method(settings, without), without, settings, run=tmp_path / "other").current_epoch == 2
