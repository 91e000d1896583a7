"""Several products in one bundle: each has its own thresholds, calibrated on its own images."""

import json
import sys

import numpy as np
import pytest
from graphs import anomaly_bundle

import blemish.cli
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import OptionError
from blemish.evaluation.evaluate import evaluate
from blemish.imaging.read import write_image
from blemish.inspection.bundle import open_bundle, replace_manifest, set_decisions
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Calibration, Decision, ProductDecision
from blemish.inspection.result import Outputs, Verdict

LOW, HIGH = Decision(review=0.2, reject=0.3, map_high=0.3), Decision(review=0.7, reject=0.8, map_high=0.8)
CALIBRATED = Calibration(source="held-out", target="false-alarm rate 0.01", good_images=9)


@pytest.fixture
def bundle(tmp_path):
    products = {
        "dark": ProductDecision(decision=LOW, calibration=CALIBRATED),
        "light": ProductDecision(decision=HIGH, calibration=CALIBRATED),
    }
    return anomaly_bundle(tmp_path / "p.blemish", products=products)  # all together: reject from 0.6


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setattr(blemish.cli, "COMMANDS", {"inspect": "Inspect", "decide": "Inspect"})

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        try:
            blemish.cli.main()
            code = 0
        except SystemExit as done:
            code = done.code
        return code, "".join(capsys.readouterr())

    return run


def grey(folder, name, value):
    write_image(folder / f"{name}.png", np.full((32, 32, 1), round(255 * value), np.uint8))
    return folder / f"{name}.png"


def test_each_sample_gets_the_thresholds_of_its_product(tmp_path, bundle):
    image = grey(tmp_path, "i", 0.65)
    inspector = Inspector.open(bundle)
    samples = [Sample(image, product=name) for name in ("dark", "light", "other", None)]
    expected = [Verdict.REJECT, Verdict.PASS, Verdict.REJECT, Verdict.REJECT]
    assert [found.verdict for found in inspector.inspect(samples)] == expected
    assert [inspector.inspect(sample).verdict for sample in samples] == expected
    assert Inspector.open(bundle, product="light").inspect(image).verdict == Verdict.PASS
    assert Inspector.open(bundle, product="dark").inspect(image).verdict == Verdict.REJECT
    overruled = Inspector.open(bundle, decision=Decision(reject=0.9))  # replaces those of all products
    assert [found.verdict for found in overruled.inspect(samples)] == [Verdict.PASS] * 4
    with pytest.raises(OptionError, match="dark, light"):
        Inspector.open(bundle, product="darkest")


def test_metrics_of_each_product_use_its_own_thresholds(tmp_path, bundle):
    samples = []
    for product, good, bad in [("dark", 0.1, 0.5), ("light", 0.5, 0.9)]:  # no single threshold separates them
        for i in range(4):
            samples.append(Sample(grey(tmp_path, f"{product}{i}", good), "good", product=product))
            samples.append(Sample(grey(tmp_path, f"{product}x{i}", bad), "bad", product=product))
    found = evaluate(Inspector.open(bundle), Dataset(tuple(samples), tmp_path, "csv"), speed=False).to_dict()
    for product in ("dark", "light"):
        metrics = found["products"][product]["image"]
        assert metrics["auroc"]["value"] == 1
        assert metrics["escape_rate"]["value"] == metrics["overkill_rate"]["value"] == 0
    assert found["image"]["escape_rate"]["value"] == 0
    assert found["image"]["auroc"]["value"] < 1  # scores of all products together
    assert found["bundle"]["products"]["light"]["reject"] == 0.8


def test_decide_changes_all_products_or_one(tmp_path, bundle, command):
    code, said = command("decide", bundle, "--product", "light", "--reject", "0.9", "--out", tmp_path / "one.blemish")
    assert code == 0, said
    one = open_bundle(tmp_path / "one.blemish").manifest
    assert one.products["light"].decision.reject == 0.9
    assert one.products["dark"].decision == LOW
    assert one.decision.reject == 0.6
    assert "changed by hand" in one.products["light"].calibration.warnings[0]
    assert not one.products["dark"].calibration.warnings
    code, said = command("decide", bundle, "--min-area", "12", "--out", tmp_path / "all.blemish")
    manifest = open_bundle(tmp_path / "all.blemish").manifest
    decisions = [manifest.decision, *(own.decision for own in manifest.products.values())]
    assert [decision.min_area_px for decision in decisions] == [12, 12, 12]
    assert [decision.reject for decision in decisions] == [0.6, 0.3, 0.8]
    assert command("decide", bundle, "--product", "none", "--reject", "1")[0] == 2
    code, said = command("decide", bundle, "--show")
    assert "dark" in said
    assert "light" in said


def test_inspect_takes_a_product(tmp_path, bundle, command):
    image = grey(tmp_path, "i", 0.65)
    assert command("inspect", bundle, image)[0] == 1
    assert command("inspect", bundle, image, "--product", "light")[0] == 0
    code, said = command("inspect", bundle, image, "--product", "nothing")
    assert code == 2
    assert "dark, light" in said


def test_a_bundle_may_have_no_products(tmp_path):
    path = anomaly_bundle(tmp_path / "g.blemish")
    with pytest.raises(OptionError, match="one product only"):
        Inspector.open(path, product="x")
    same = replace_manifest(path, set_decisions(open_bundle(path).manifest, lambda decision: decision))
    assert open_bundle(same).manifest.products == {}


def test_graph_and_network_are_compared_by_the_decision_for_each_product(tmp_path, bundle):
    pytest.importorskip("torch")
    from blemish.inspection.agreement import verdict_agreement

    inspector = Inspector.open(bundle)
    image = grey(tmp_path, "i", 0.5)
    for product, below, above in [("dark", 0.29, 0.31), ("light", 0.79, 0.81), (None, 0.59, 0.61)]:
        trained, shipped = (Outputs(anomaly_score=np.float32([score])) for score in (below, above))
        compared = [(Sample(image, product=name), trained, shipped) for name in ("dark", "light", None)]
        differing = [
            name
            for name, one in zip(("dark", "light", None), compared, strict=True)
            if not verdict_agreement([one], inspector)
        ]
        assert differing == [product]
        assert verdict_agreement(compared, inspector) == pytest.approx(2 / 3)


def test_certified_images_are_of_all_products():
    pytest.importorskip("torch")
    from blemish.training.ship.export import sample_evenly

    samples = [Sample(f"{i}.png", product=f"p{i // 20}") for i in range(100)]
    assert {s.product for s in sample_evenly(samples, 32)} == {f"p{k}" for k in range(5)}
    assert len({s.image for s in sample_evenly(samples, 32)}) == 32
    assert sample_evenly(samples[:9], 32) == samples[:9]


def test_map_thresholds_are_the_common_ones_where_a_products_images_give_none():
    pytest.importorskip("torch")
    from blemish.training.ship.export import with_region_thresholds

    pooled = Decision(reject=0.6, map_low=0.3, map_high=0.4, edge=0.5)
    assert with_region_thresholds(Decision(reject=0.8), pooled) == pooled.model_copy(update={"reject": 0.8})
    assert with_region_thresholds(HIGH, pooled) == HIGH


def product_data(folder, products):
    """A CSV of noisy surfaces: for each product the noise, and how many good and spotted images are in validation."""
    rng = np.random.default_rng(0)
    rows = ["image,label,split,product"]
    for product, (noise, good, spotted) in products.items():
        for i in range(6 + good + spotted + 4):
            split = "train" if i < 6 else "val" if i < 6 + good + spotted else "test"
            spot = 6 + good <= i < 6 + good + spotted or (split == "test" and i % 2)
            image = rng.normal(120, noise, (64, 64))
            if spot:
                image[20:34, 30:44] += 120
            write_image(folder / f"{product}{i}.png", image.clip(0, 255).astype(np.uint8)[..., None])
            rows.append(f"{product}{i}.png,{'spot' if spot else 'good'},{split},{product}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


def test_training_sets_thresholds_for_each_product_with_enough_good_images(tmp_path, caplog):
    """The noisier product needs a higher threshold; for some products, the validation images determine none."""
    pytest.importorskip("torch")
    from blemish.training.train import train

    noises = {"calm": (3, 9, 0), "rough": (12, 10, 2), "few": (3, 8, 1), "spotted": (3, 0, 3), "unseen": (3, 0, 0)}
    data = product_data(tmp_path, noises)
    run = train(
        data, out=tmp_path / "run", method="padim", channels=1, progress=False,
        options={"image_size": 64, "dimensions": 10}, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    inspector = Inspector.open(run)
    manifest = inspector.manifest
    assert set(manifest.products) == {"calm", "rough"}
    held = read_dataset(data).split("val")
    for name, own in manifest.products.items():
        scores = [inspector.inspect(s).score for s in held.samples if s.product == name and s.label == "good"]
        assert own.calibration.good_images == len(scores)
        assert own.decision.review == pytest.approx(max(scores), rel=1e-3)
    assert manifest.products["calm"].decision.reject < manifest.products["rough"].decision.review
    lines = [line for line in caplog.messages if "few, spotted, unseen" in line]
    assert len(lines) == 1
    assert lines[0] in manifest.calibration.warnings
    # The others use the common thresholds, and are not all sent to review.
    for sample in read_dataset(data).split("test").samples:
        if sample.product not in manifest.products:
            assert inspector.get_decision(sample.product) == manifest.decision
            assert inspector.inspect(sample).verdict == (Verdict.REJECT if sample.defective else Verdict.PASS)
    metrics = evaluate(inspector, read_dataset(data).split("test"), speed=False).to_dict()
    assert set(metrics["products"]) == set(noises)
    json.dumps(metrics)
