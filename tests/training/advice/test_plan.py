"""The advisor: its table is complete, its ranking follows the points, and a written plan is what is run."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from blemish import read_dataset
from blemish.dataset.fingerprint import fingerprint
from blemish.dataset.split import ensure_splits
from blemish.errors import DataError, OptionError
from blemish.imaging.read import write_image
from blemish.inspection.bundle import open_bundle
from blemish.methods.base import OnePassMethod
from blemish.methods.catalogue import METHODS, method_class
from blemish.training.advice import plan as planning
from blemish.training.advice import probe as probing
from blemish.training.advice.plan import (
    advise,
    advise_fingerprint,
    advised_options,
    advised_settings,
    make_plan,
    probe_top,
    read_plan,
    tiles_per_image,
    write_plan,
)
from blemish.training.advice.probe import MachineProfile, ProbeCost, RunEstimate, estimate, images_shown, probe_machine
from blemish.training.advice.rules import MAX_DARK, RULES, AdviceRule
from blemish.training.learn.prepare import make_splits
from blemish.training.learn.run import read_config
from blemish.training.train import train
from blemish.translation import Message

QUICK_MACHINE = MachineProfile(ProbeCost(0.01, 0.01, 1000, 1000, 1000), backward=3.0)
ROWS = Path(__file__).parents[3] / "benchmarks" / "rows"


@pytest.fixture(scope="module")
def good_only(tiny_data):
    return fingerprint(read_dataset(tiny_data.folder / "mvtec"))


def test_every_rule_names_known_methods_and_its_reason():
    for rule in RULES:
        assert set(rule.points) <= set(METHODS), rule.name
        assert rule.reason
        assert rule.points or rule.settings or rule.warns or rule.suggests
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_every_method_is_advised_or_says_why_it_never_is():
    advised = {name for rule in RULES for name, points in rule.points.items() if points > 0}
    for name in METHODS:
        reason = method_class(name).info.never_advised
        assert (reason is None) == (name in advised), name
        assert reason is None or reason.strip()


def test_evidence_names_rows_that_were_measured():
    for rule in RULES:
        for evidence in rule.evidence:
            lines = (ROWS / f"{evidence.rows}.jsonl").read_text().splitlines()
            rows = [row | row.get("metrics", {}) for row in map(json.loads, lines) if evidence.selects(row)]
            assert rows, f"{rule.name}: {evidence}"
            for metric in evidence.metrics:
                assert any(row.get(metric) not in (None, "") for row in rows), f"{rule.name}: {metric}"


def test_no_figure_of_a_benchmark_is_written_in_a_rule():
    for rule in RULES:
        assert not re.search(r"\d\.\d", rule.reason.replace(f"{MAX_DARK:.1%}", "")), rule.name


def test_points_add_up_and_order_the_ranking(good_only):
    advice = advise_fingerprint(good_only)
    for ranked in advice.ranking:
        holding = [rule for rule in RULES if rule.when(good_only) and ranked.method in rule.points]
        assert ranked.points == sum(rule.points[ranked.method] for rule in holding)
        assert set(ranked.reasons) == {rule.reason for rule in holding}
    points = [ranked.points for ranked in advice.ranking]
    assert points == sorted(points, reverse=True)


def test_methods_that_cannot_be_trained_are_not_ranked(good_only):
    everything = AdviceRule("all", lambda f: True, Message("a wish"), points=dict.fromkeys(METHODS, 1))
    ranked = {r.method for r in advise_fingerprint(good_only, [everything]).ranking}
    assert ranked == {name for name in METHODS if method_class(name).info.requires == ("good",)}
    truth = {
        "training_annotations": ("good", "label", "mask"),
        "defective_training": 30,
        "defects_training": {"pit": 30},
    }
    truth |= {"masked_training": 30, "boxed_training": 30, "labelled_training": {"good": 9, "pit": 30}}
    taught = replace(good_only, **truth)
    assert {"unet", "faster-rcnn", "classifier"} <= {r.method for r in advise_fingerprint(taught, [everything]).ranking}
    with pytest.raises(DataError, match="no method can be trained"):
        advise_fingerprint(replace(good_only, training_annotations=()))


@pytest.mark.parametrize(("kinds", "compared"), [(("pit",), False), (("pit", "scratch"), True)])
def test_a_few_masks_and_nothing_else_are_segmented(kinds, compared, tiny_data):
    """With a single class there is nothing to classify."""
    marked = read_dataset(tiny_data.folder / "labelled.csv").where(lambda s: s.label in kinds)
    advice = advise(marked)
    assert advice.method == "fpn"
    ranked = {r.method for r in advice.ranking}
    assert ("prototypical" in ranked) is compared
    assert ("classifier" in ranked) is False  # too few for its rule
    assert "patchcore" not in ranked
    assert not make_plan("data", advice, {}).about["worth_trying"]  # nothing good to paste on
    whole = advise(read_dataset(tiny_data.folder / "labelled.csv"))
    first, second = make_plan("data", whole, {}).about["worth_trying"]
    assert "supersimplenet" in first
    assert "--synthetic" in second
    assert "few defects with masks" in make_plan("data", whole, {}).about["evidence"]


def test_small_defects_need_a_larger_input(good_only):
    def settings(side, height, width):
        return advise_fingerprint(replace(good_only, small_defect_side=side, height=height, width=width)).settings

    assert "image_size" not in settings(20.0, 256, 256)
    assert settings(10.0, 400, 400)["image_size"] == 320  # 10 px of 400 are 8 px of 320
    tiles = advise_fingerprint(replace(good_only, small_defect_side=10.0, height=4000, width=2000))
    side = advised_settings(tiles)["tiling"]["width"]
    assert 10 * tiles.settings["image_size"] / side == pytest.approx(8, abs=0.1)
    assert settings(None, 1100, 1000)["tile"] == 512


def test_a_setting_is_listed_under_the_last_rule_that_sets_it(good_only):
    advice = advise_fingerprint(replace(good_only, small_defect_side=6.0, height=4000, width=500, channels=5))
    about = make_plan("data", advice, {}).about
    lines = {line.split(": ")[0] for line in about["settings"]}
    assert lines == {"channels 5", "image_size 256, tile 192"}
    assert {"channels", "long images", "tiny defects", "good images"} <= set(about["evidence"])


def test_long_images_are_cut_into_squares(good_only):
    def settings(side, height, width, **changes):
        long = replace(good_only, small_defect_side=side, height=height, width=width, **changes)
        return advise_fingerprint(long).settings

    assert settings(None, 1000, 400) == {"tile": 400}
    assert settings(None, 400, 1000) == {"tile": 400}
    assert settings(None, 1100, 500) == {"image_size": 256, "tile": 500}
    assert settings(None, 9000, 1000) == settings(None, 1900, 1000) == {"image_size": 256, "tile": 512}
    assert "tile" not in settings(None, 900, 500)
    assert settings(20.0, 4000, 500) == {"tile": 500}  # 10 px in each tile, 1 px in the whole
    assert settings(12.0, 4000, 500) == {"image_size": 384, "tile": 500}
    assert settings(None, 60, 500) == {"tile": 128}
    assert settings(3.0, 60, 1000) == {"image_size": 384, "tile": 128}  # 6 px in a tile seen at 256
    labelled = {"training_annotations": ("label",), "defective_training": 30, "defects_training": {"a": 15, "b": 15}}
    labelled["labelled_training"] = labelled["defects_training"]
    # The tile that contains a defect is unknown.
    assert "tile" not in settings(None, 1100, 500, **labelled)
    assert settings(None, 1100, 1100, **labelled)["image_size"] == 512


def test_a_plan_is_read_as_it_was_written_and_run(tiny_data, tmp_path):
    data = tiny_data.folder / "mvtec"
    advice = advise(read_dataset(data))
    estimates = {advice.method: RunEstimate(123.4, 5.678, 90.1, 16)}
    made = make_plan(str(data), advice, estimates, seed=3, false_alarm=0.05)
    made.train["options"] = {"image_size": 64}
    write_plan(made, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == made.train
    about = yaml.safe_load((tmp_path / "plan.yaml").read_text())["about"]
    assert about["ranking"][0]["method"] == advice.method == made.train["method"]
    assert about["ranking"][0]["estimate"]["training_s"] == 120
    assert sum(about["ranking"][0]["rules"].values()) == about["ranking"][0]["points"]
    assert about["fingerprint"]["good_training"] == 13  # three are held out
    run = train(**read_plan(tmp_path / "plan.yaml"), out=tmp_path / "run", progress=False)
    config = read_config(run)
    assert (config.seed, config.false_alarm, config.options["image_size"]) == (3, 0.05, 64)
    assert open_bundle(run).manifest.provenance.method == advice.method


def test_the_probe_counts_what_the_schedule_shows():
    machine = probe_machine(64)
    assert machine.backward >= 1
    classes = ("good", "defect")
    once = estimate("padim", {"image_size": 64}, classes, 40, machine)
    assert once.images == 40
    assert estimate("padim", {"image_size": 64}, classes, 80, machine).training_s == pytest.approx(2 * once.training_s)
    cut = estimate("padim", {"image_size": 64}, classes, 40, machine, tiles=9)
    assert (cut.training_s, cut.latency_ms) == pytest.approx((9 * once.training_s, 9 * once.latency_ms))
    assert (cut.images, cut.memory_mb) == (9 * once.images, once.memory_mb)
    kind = method_class("stfpm")
    method = kind(kind.Options(weights="random", steps=7, batch_size=8), classes)
    assert images_shown(method, 40, 8) == 7 * 8


@pytest.mark.parametrize("name", [name for name in METHODS if not issubclass(method_class(name), OnePassMethod)])
def test_every_method_that_learns_in_steps_is_probed_before_it_is_trained(name, monkeypatch):
    monkeypatch.setattr(probing, "REPEATS", 1)
    options = {k: v for k, v in method_class(name).info.smoke.items() if k in ("image_size", "width")}
    cost = estimate(name, options, ("good", "scratch", "pit"), 7, QUICK_MACHINE)
    assert cost.training_s > 0
    assert cost.latency_ms > 0
    assert cost.memory_mb > 0
    assert cost.images >= 7


def test_an_untrained_siamese_network_is_probed_with_its_whole_gallery():
    machine = probe_machine(64)
    small, large = (
        estimate("siamese", {"image_size": 64, "gallery": number}, ("good", "defect"), 7, machine)
        for number in (1, 200)
    )
    assert 0 < small.latency_ms < large.latency_ms


def test_an_image_costs_as_much_as_its_tiles(good_only):
    found = replace(good_only, height=100, width=200)
    assert tiles_per_image(found, None) == 1
    assert tiles_per_image(found, {"height": 50, "width": 50, "overlap": 0.0}) == 8
    tiled = advise_fingerprint(replace(good_only, small_defect_side=10.0, height=4000, width=2000))
    whole = replace(tiled, settings={k: v for k, v in tiled.settings.items() if k != "tile"})
    costs = [probe_top(advice, ("good", "defect"), 1)["patchcore"] for advice in (tiled, whole)]
    assert costs[0].images == costs[1].images * tiles_per_image(tiled.fingerprint, advised_settings(tiled)["tiling"])


@pytest.mark.usefixtures("cross_fit_few_good")
def test_what_more_images_would_achieve(good_only):
    lines = planning.more_data(replace(good_only, good_validation=20, good_training=80, defects_test=60), 0.01, 0.01)
    assert "there are 20: 395 more good images" in lines[0]
    assert "cross-fitted" in lines[0]
    assert "60 defective test images prove an escape rate of at most 4.9%" in lines[1]  # 1 - 0.05 ** (1 / 60)
    assert "299: 239 more" in lines[1]
    few = planning.more_data(
        replace(good_only, good_validation=10, good_training=40), 0.01, 0.01, method_class("padim")
    )
    assert "holds out each of the 50 once: 49 more good images" in few[0]
    own = replace(good_only, good_validation=20, good_training=100, splits_given=("test", "train", "val"))
    assert "there are 20: 79 more good validation images; or train" in planning.more_data(own, 0.01, 0.01)[0]


def test_that_images_of_a_group_promise_less_is_said(good_only):
    found = replace(good_only, good_validation=120, good_training=400, images=600)
    for groups, said in ((0, False), (600, False), (5, True)):
        lines = planning.more_data(replace(found, groups=groups), 0.01, 0.01)
        assert any("there are 5 groups: what can be promised or proven is less" in line for line in lines) == said


def test_data_without_splits_are_split_before_the_advice(tiny_data, tmp_path):
    lines = [line.rpartition(",")[0] for line in (tiny_data.folder / "labelled.csv").read_text().splitlines()]
    (tmp_path / "unsplit.csv").write_text("\n".join(lines) + "\n")
    dataset = read_dataset(tmp_path / "unsplit.csv", root=str(tiny_data.folder))
    assert not any(s.split for s in dataset.samples)
    everything = AdviceRule("all", lambda f: True, Message("a wish"), points={"unet": 1})
    advice = advise(dataset, seed=1)
    found, split = advice.fingerprint, ensure_splits(dataset, 1, need_defects_in_training=True)
    assert found.defective_training == sum(bool(s.defective) for s in split.split("train").samples) < found.defects
    assert found.defects_training == Counter(s.label for s in split.split("train").samples if s.defective)
    assert found.defects_test == sum(bool(s.defective) for s in split.split("test").samples) > 0

    def promise(advice):
        return make_plan("data", advice, {}).about["more_data"][1]

    assert promise(advice_of := advise_fingerprint(found, [everything])).startswith(
        f"{found.defects_test} defective test"
    )
    assert advice_of.method == "unet"
    assert advice.method == "patchcore"  # trained on good images alone, so all defects are left to test it
    assert promise(advice).startswith(f"{found.defects} defective test")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: [1", "neither YAML nor JSON"),
        ("about: {}", "needs a section `train`"),
        ("train: {data: x, method: patchcore, colour: red}", "unknown field 'colour'"),
        ("train: {data: x, method: patchcore, seed: many}", "seed: input should be a valid integer"),
    ],
)
def test_a_plan_that_cannot_be_run_is_one_line(tmp_path, text, words):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(OptionError, match="plan") as caught:
        read_plan(tmp_path / "plan.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def labelled_as(good_only, **changes):
    """A set of 60 good images and 25 defective ones of each of two kinds, by their labels."""
    counts = {"pit": 25, "scratch": 25}
    given = {"training_annotations": ("good", "label"), "good_training": 60, "defective_training": 50}
    given |= {"defects_training": counts, "labelled_training": {"good": 60, **counts}}
    return replace(good_only, **given, **changes)


@pytest.mark.parametrize("marked", ["mask", "boxes"])
def test_one_mask_or_box_does_not_turn_the_advice(good_only, marked):
    truth, count = ("good", "label", marked), "masked_training" if marked == "mask" else "boxed_training"
    first = {
        n: advise_fingerprint(replace(labelled_as(good_only, **{count: n}), training_annotations=truth)).method
        for n in (1, 50)
    }
    assert first == {1: "classifier", 50: {"mask": "fpn", "boxes": "faster-rcnn"}[marked]}


def test_no_method_of_labels_where_a_class_has_a_single_image(good_only):
    rare = labelled_as(good_only)
    rare = replace(rare, labelled_training={**rare.labelled_training, "rare": 1}, defects_training={
        **rare.defects_training, "rare": 1,
    })  # fmt: skip
    advice = advise_fingerprint(rare)
    assert "label" not in {need for r in advice.ranking for need in method_class(r.method).info.requires}
    assert "too rare a class" in {rule.name for rule in advice.rules}
    assert "too rare a class" not in {rule.name for rule in advise_fingerprint(labelled_as(good_only)).rules}


def test_images_of_several_classes_need_multi_label_methods(good_only):
    several = labelled_as(good_only, several_training=40)
    several = replace(several, labelled_training={"good": 60, "pit": 10})
    advice = advise_fingerprint(several)
    assert advice.method == "classifier"
    assert advised_options(advice, "classifier", {})["multi_label"] is True
    assert "feature-classifier" not in {r.method for r in advice.ranking}
    assert "multi_label" not in advised_options(advise_fingerprint(labelled_as(good_only)), "classifier", {})


def test_the_advised_input_size_is_valid_for_the_method(good_only):
    advice = advise_fingerprint(replace(good_only, small_defect_side=10.0, height=512, width=512))
    assert advice.settings["image_size"] == 512
    for name in METHODS:
        given = advised_options(advice, name, {})
        assert given["image_size"] % (14 if "dino" in name else 32) == 0
        kind = method_class(name)
        assert kind.Options(**given).image_size >= kind.Options().image_size


def test_unused_bits_are_warned_of(tmp_path):
    """Twelve bits in files of sixteen, against the same picture on the full scale."""
    advised = {}
    for scale in (1, 16):
        for i in range(6):
            image = np.random.default_rng(i).integers(0, 4096, (64, 64, 1)).astype(np.uint16)
            write_image(tmp_path / str(scale) / "good" / f"{i}.png", image * scale)
        advised[scale] = {rule.name for rule in advise(read_dataset(tmp_path / str(scale), "good-defect")).rules}
    assert ("unused bits" in advised[1], "unused bits" in advised[16]) == (True, False)


def test_cracks_of_long_images_are_looked_at_in_tiles(tmp_path):
    """Drawn images of 500 × 1,260 px with cracks of a few px: whole, the network would see them one px wide or less."""
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(110, 140, (1260, 500, 1), dtype=np.uint8)
        folder = tmp_path / ("test/crack" if i >= 8 else "test/good" if i >= 6 else "train/good")
        folder.mkdir(parents=True, exist_ok=True)
        if i >= 8:
            mask = np.zeros((1260, 500, 1), np.uint8)
            top, left = int(rng.integers(100, 900)), int(rng.integers(50, 450))
            mask[top : top + 120, left : left + 3] = 255
            image[mask > 0] = 40
            (tmp_path / "ground_truth/crack").mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / f"ground_truth/crack/{i:03}_mask.png", mask)
        write_image(folder / f"{i:03}.png", image)
    advice = advise(read_dataset(tmp_path))
    view = advised_options(advice, advice.method, {}).get("image_size", 256)
    assert advised_settings(advice)["tiling"]["width"] <= 500
    assert 3 * view / advised_settings(advice)["tiling"]["width"] > 1.5


def test_a_plan_explains_itself_in_another_language(good_only):
    """The same plan and numbers; only the sentences differ."""
    advice = advise_fingerprint(replace(good_only, small_defect_side=6.0, height=4000, width=500, good_training=60))
    english, chinese = make_plan("data", advice, {}), make_plan("data", advice, {}, language="zh")
    assert chinese.train == english.train
    for key in ("because", "settings", "more_data"):
        for one, other in zip(english.about[key], chinese.about[key], strict=True):
            assert other != one
            assert not other.isascii()
            assert sorted(re.findall(r"[0-9.]+", other)) == sorted(re.findall(r"[0-9.]+", one))
    with pytest.raises(OptionError, match="unknown language"):
        make_plan("data", advice, {}, language="xx")


def test_it_is_said_where_defects_had_a_say_that_the_training_leaves_to_the_test(tmp_path):
    """Of data without splits, their sizes switch the tiles; by splits that keep the small ones apart, they do not."""
    rng = np.random.default_rng(0)
    for i in range(30):
        write_image(tmp_path / f"{i}.png", rng.integers(100, 140, (512, 512, 1), np.uint8))
    for side in (4, 160):
        mask = np.zeros((512, 512, 1), np.uint8)
        mask[100 : 100 + side, 100 : 100 + side] = 255
        write_image(tmp_path / f"{side}.mask.png", mask)
    advised = []
    for side, given in ((160, False), (4, False), (160, True), (4, True)):
        lines = ["image,label,mask,split"] + [f"{i}.png,good,,{'train' * given}" for i in range(24)]
        for i in range(24, 30):
            split = ("train", "test")[i % 2] * given
            lines.append(f"{i}.png,crack,{160 if split == 'train' else side}.mask.png,{split}")
        (tmp_path / "data.csv").write_text("\n".join(lines))
        data = read_dataset(tmp_path / "data.csv")
        advice = advise(data)
        split = make_splits(data, [method_class(advice.method)], 0, 0.2)
        assert ({s.split for s in split.samples if s.defective} == {"test"}) is not given
        lines = make_plan("data", advice, {}).about["warnings"]
        advised.append(("tile" in advice.settings, any("had a say" in line for line in lines)))
    assert advised == [(False, True), (True, True), (False, False), (False, False)]


def test_no_cascade_where_there_is_one_kind_of_defect(good_only):
    rule = AdviceRule("any", lambda _: True, Message("any"), points={"cascade": 9, "classifier": 1})
    for kinds, expected in (({"pit": 9}, ["classifier"]), ({"pit": 9, "dent": 9}, ["cascade", "classifier"])):
        found = replace(labelled_as(good_only), defects_training=kinds, labelled_training={"good": 60, **kinds})
        ranking = advise_fingerprint(found, [rule]).ranking
        assert [ranked.method for ranked in ranking] == expected
