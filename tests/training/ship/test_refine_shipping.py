"""The refinement of regions ships only where it proves to be better: taught, sabotaged, and too few images."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from graphs import make_bundle, model
from onnx import helper

from blemish.dataset.sample import Dataset, Sample
from blemish.geometry import mask_bounds
from blemish.imaging.read import read_image, write_image
from blemish.inspection.bundle import open_bundle, write_bundle
from blemish.inspection.engines import open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Refinement
from blemish.inspection.refine import open_refiner
from blemish.inspection.refine_window import GoodMemory
from blemish.inspection.regions import region_mask
from blemish.inspection.result import Region
from blemish.training.ship import refine
from blemish.training.ship.refine import RefinementJudgement, make_refiner, mask_iou
from blemish.training.ship.refine_network import RefineNetwork
from blemish.training.ship.synthetic_trials import synthetic_trials

LEVELS = (1.0, 2.0)
SIDE = 128
NO_REFINEMENT = Refinement(shipped=False, reason="", levels=LEVELS)


def blurred_difference() -> bytes:
    """The map is the difference from a grey of 0.6, blurred as maps of deep features are."""
    nodes = [
        helper.make_node("Sub", ["images", "grey"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["difference"]),
        helper.make_node("AveragePool", ["difference"], ["blurred"], kernel_shape=[21, 21], pads=[10] * 4),
        helper.make_node("ReduceMean", ["blurred"], ["anomaly_map"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
    ]
    shapes = {"anomaly_score": ["n"], "anomaly_map": ["n", "h", "w"]}
    return model(nodes, shapes, constants=[("grey", np.float32([0.6]))])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Good images of a fine texture: 24 to train on, 8 held out for tuning."""
    folder = tmp_path_factory.mktemp("good")
    samples = []
    for number in range(32):
        rng = np.random.default_rng(number)
        surface = 0.6 + 0.02 * cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)).astype(np.float32), (0, 0), 1) / 0.3
        write_image(folder / f"{number}.png", np.round(surface.clip(0, 1) * 255).astype(np.uint8)[..., None])
        split = "train" if number < 24 else "tuning"
        samples.append(Sample(image=folder / f"{number}.png", label="good", split=split))
    return Dataset(samples=tuple(samples), root=folder, format="list")


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    path = tmp_path_factory.mktemp("bundle") / "test.blemish"
    decision = Decision(review=0.045, reject=0.05, map_low=0.025, map_high=0.035, edge=0.5)
    make_bundle(path, blurred_difference(), ["anomaly_score", "anomaly_map"], decision, side=SIDE)
    return Inspector.open(path, threads=1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MIN_GOOD": 20, "TAUGHT": 110, "JUDGED": 60, "STEPS": 60}.items():
        monkeypatch.setattr(refine, name, value)


@pytest.mark.slow
def test_a_taught_refiner_ships_and_finds_borders_of_defects_of_a_third_kind(
    inspector: Inspector, good: Dataset, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine, "STEPS", 150)
    refinement, members = make_refiner(inspector, good, seed=0)
    assert refinement is not None
    assert refinement.shipped, refinement.reason
    assert refinement.gain is not None
    assert refinement.gain[0] >= refine.MIN_GAIN
    assert set(members) == {refinement.graph, refinement.memory}
    onnx.checker.check_model(onnx.load_from_string(members[refinement.graph]))

    manifest = inspector.manifest.model_copy(update={"refinement": refinement})
    path = write_bundle(tmp_path / "refined.blemish", inspector.bundle.graph, manifest, members)
    assert open_bundle(path).manifest.refinement == refinement
    refining = Inspector.open(path, threads=1)
    image = read_image(good.samples[30].image).copy()
    truth = np.zeros(image.shape[:2], np.uint8)
    cv2.line(truth, (30, 40), (90, 75), 1, 3)
    image[truth > 0] = 30
    coarse, refined = inspector.inspect(image), refining.inspect(image)
    ious = [mask_iou(region_mask(r.regions, truth.shape), truth > 0) for r in (coarse, refined)]
    assert ious[1] > ious[0] + 0.2
    assert (coarse.score, coarse.verdict) == (refined.score, refined.verdict)
    assert [region.refined for region in coarse.regions] == [None]
    assert [region.refined for region in refined.regions] == [True]
    clean = read_image(good.samples[30].image)
    assert refining.inspect(clean) == inspector.inspect(clean)


@pytest.mark.parametrize("closer", [True, False])
def test_only_a_refiner_that_was_taught_on_closer_windows_looks_closer(
    inspector: Inspector, tmp_path: Path, closer: bool
) -> None:
    class Bright(RefineNetwork):
        def forward(self, inputs):
            return (inputs[:, :1] > 1).float()

    refinement = Refinement(shipped=True, reason="", levels=LEVELS, **({"closer": True} if closer else {}))
    members = {
        refinement.graph: refine.export_refiner(Bright().eval()),
        refinement.memory: refine.pack_memory(GoodMemory(np.full((8, 8, 2), 0.4, np.float32))),
    }
    manifest = inspector.manifest.model_copy(update={"refinement": refinement})
    bundle = open_bundle(write_bundle(tmp_path / "b.blemish", inspector.bundle.graph, manifest, members))
    image, line = np.full((500, 500, 1), 100, np.uint8), np.zeros((500, 500), np.uint8)
    cv2.line(line, (50, 60), (430, 400), 1, 3)
    image[line > 0] = 250
    wide = cv2.dilate(line, np.ones((15, 15), np.uint8)) > 0
    x0, y0, x1, y1 = mask_bounds(wide)
    region = Region("defect", 3.0, (x0, y0, x1, y1), wide[y0:y1, x0:x1])
    refiner = open_refiner(bundle, threads=1)
    assert refiner is not None
    regions = refiner.refine([region], image, wide.astype(np.float32) * 3)
    iou = mask_iou(region_mask(regions, line.shape), line > 0)
    assert (iou > 0.99) if closer else (0.3 < iou < 0.8)


def test_the_same_seed_gives_the_same_members() -> None:
    taught = [refine.teach_refiner(*windows, 4, 3) for windows in [random_windows()] * 2]
    first, second = (refine.export_refiner(network) for network in taught)
    assert first == second


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_graph_says_on_each_engine_what_the_network_says_of_any_number_of_windows(engine: str) -> None:
    pytest.importorskip(engine)
    network = refine.teach_refiner(*random_windows(), 4, 3)
    opened = open_engine(refine.export_refiner(network), engine, threads=1)
    inputs, _ = random_windows()
    for count in (1, 3):
        shown = opened.run(inputs[:count]).mask_scores
        with torch.no_grad():
            expected = network(torch.from_numpy(inputs[:count])).numpy()
        assert shown is not None
        np.testing.assert_allclose(shown, expected, atol=1e-5)
        assert np.ptp(expected) > 0.05


def random_windows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 7, 128, 128)).astype(np.float32), rng.random((8, 128, 128), np.float32)


def test_a_sabotaged_refiner_does_not_ship(
    inspector: Inspector, good: Dataset, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Upended(RefineNetwork):
        """Says of the region what is not the defect: its rim."""

        def forward(self, inputs):
            return ((inputs[:, 6:7] > 0) & (inputs[:, :1].abs() < 0.4)).float()

    monkeypatch.setattr(refine, "teach_refiner", lambda *arguments: Upended().eval())
    refinement, members = make_refiner(inspector, good, seed=0)
    assert refinement is not None
    assert not refinement.shipped
    assert members == {}
    assert refinement.refined_iou < refinement.coarse_iou
    assert "not refined" in refinement.summary


def test_annotated_defects_of_validation_images_judge_too(
    inspector: Inspector, good: Dataset, short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refiner that finds the dark pixels is right for synthetic defects, and wrong where annotators mean more."""
    samples = list(good.samples)
    for number in range(6):
        image = read_image(good.samples[number].image).copy()
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[30:80, 40 + number : 80 + number] = 255
        image[52:58, 42 + number : 78 + number] = 20  # a small part of it looks different
        write_image(tmp_path / f"{number}.png", image)
        write_image(tmp_path / f"{number}_mask.png", mask[..., None])
        samples.append(
            Sample(tmp_path / f"{number}.png", label="dent", split="val", mask=tmp_path / f"{number}_mask.png")
        )
    seen: list[str] = []
    monkeypatch.setattr(refine, "judge_refiner", lambda *given: seen.extend(t.kind for t in given[4]) or NO_REFINEMENT)
    monkeypatch.setattr(refine, "teach_refiner", lambda *arguments: RefineNetwork().eval())
    make_refiner(inspector, good.with_samples(samples), seed=0)
    assert seen.count(refine.ANNOTATED) == 6
    trials = list(refine.annotated_trials(good.with_samples(samples), 4))
    assert [t.mask.sum() for t in trials] == [50 * 40] * 4

    class Dark(RefineNetwork):
        def forward(self, inputs):
            return (inputs[:, :1] < -1).float()

    monkeypatch.undo()
    memory, engine = refine.remember_good(list(good.samples), 1), open_engine(refine.export_refiner(Dark().eval()))
    judged = [refine.judge_refiner(inspector, engine, memory, LEVELS, trials * n, 100) for n in (5,)]
    assert not judged[0].shipped
    assert judged[0].by_kind[refine.ANNOTATED][1] < judged[0].by_kind[refine.ANNOTATED][0]


def test_too_few_good_images_ship_none_and_say_so(inspector: Inspector, good: Dataset, short: None) -> None:
    few = good.with_samples(good.samples[:15])
    refinement, members = make_refiner(inspector, few, seed=0)
    assert refinement is not None
    assert not refinement.shipped
    assert members == {}
    assert "15 good images" in refinement.reason


def test_regions_that_no_anomaly_map_gives_are_left_alone(inspector: Inspector, good: Dataset) -> None:
    manifest = inspector.manifest.model_copy(update={"outputs": ["mask_scores"]})
    other = Inspector(inspector.bundle, inspector.engine, manifest)
    assert make_refiner(other, good, seed=0) == (None, {})


def judged(grown: int, kind_grown: dict[str, int] | None = None) -> RefinementJudgement:
    """Trials whose coarse regions are 4 px too large, and refined ones as much as given (by kind)."""
    judgement = RefinementJudgement()
    rng = np.random.default_rng(0)
    for number in range(40):
        kind = ("line", "large")[number % 2]
        x, y, side = (int(v) for v in rng.integers(20, 60, 3))
        truth = np.zeros((160, 160), bool)
        truth[y : y + side, x : x + side] = True
        regions = [
            [Region("defect", 1.0, (x - g, y - g, x + side + g, y + side + g))]
            for g in (4, (kind_grown or {}).get(kind, grown))
        ]
        judgement.add(kind, truth, *regions)
    return judgement


def test_what_the_judgement_concludes() -> None:
    better = judged(1).conclude(LEVELS, 100, 0)
    assert better.shipped
    assert better.coarse_iou < better.refined_iou
    assert better.gain[0] <= better.refined_iou - better.coarse_iou <= better.gain[1]
    assert not judged(8).conclude(LEVELS, 100, 0).shipped
    assert not judged(4).conclude(LEVELS, 100, 0).shipped
    partly = judged(0, {"large": 6}).conclude(LEVELS, 100, 0)
    assert not partly.shipped
    assert "large" in partly.reason
    few = judged(1)
    few.kinds = few.kinds[:10]
    assert not few.conclude(LEVELS, 100, 0).shipped


def test_images_to_teach_and_to_judge_by_differ(good: Dataset) -> None:
    training, held_out = refine._good_images(good)
    assert not {s.image for s in training} & {s.image for s in held_out}
    taught = {trial.sample.image for trial in synthetic_trials(training, 30, 0, "taught")}
    assert not taught & {s.image for s in held_out}
    only_validation = good.with_samples(replace(s, split="val") if s.split == "tuning" else s for s in good.samples)
    assert {s.split for s in refine._good_images(only_validation)[1]} == {"val"}


@pytest.mark.parametrize(("tuning", "expected"), [(8, {"tuning": 8}), (5, {"tuning": 5}), (4, {"tuning": 4, "val": 4}),
                                                  (0, {"val": 8})])  # fmt: skip
def test_the_bundle_says_of_which_splits_the_images_of_the_proof_were(
    tuning: int, expected: dict[str, int], inspector: Inspector, good: Dataset, short: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: set[str] = set()

    def look(*given) -> Refinement:
        seen.update(str(trial.sample.split) for trial in given[4])
        return judged(1).conclude(LEVELS, 100, 0)

    monkeypatch.setattr(refine, "judge_refiner", look)
    monkeypatch.setattr(refine, "teach_refiner", lambda *arguments: RefineNetwork().eval())
    splits = [*["train"] * 24, *["tuning"] * tuning, *["val"] * (8 - tuning)]
    held = good.with_samples(replace(s, split=split) for s, split in zip(good.samples, splits, strict=True))
    refinement, _ = make_refiner(inspector, held, seed=0)
    assert refinement is not None
    assert refinement.judged_on == expected
    assert seen == set(expected)
    assert all(f"{count} of {split}" in refinement.summary for split, count in expected.items())
