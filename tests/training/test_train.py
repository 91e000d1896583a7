"""From a folder to a bundle: proven, calibrated, resumable, the same over several processes."""

import csv
import json
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from blemish import Inspector, Verdict, read_dataset, resume, train
from blemish.cli.train import _show
from blemish.dataset.sample import AnnotationWarning
from blemish.dataset.write import write_csv
from blemish.errors import DataError, ExportError, OptionError
from blemish.imaging.read import write_image
from blemish.inspection.bundle import find_bundle, open_bundle
from blemish.methods.feature_distance.patchcore import PatchCore, PatchCoreOptions
from blemish.training.learn.fit import MAX_VALIDATIONS, validation_interval
from blemish.training.learn.one_pass import with_collecting_strategy
from blemish.training.learn.run import read_config, write_config
from blemish.training.ship import export as shipping
from blemish.training.ship import parity
from blemish.training.train import load_method

OPTIONS = {"image_size": 64, "coreset_ratio": 0.2}


def silently(*arguments, **settings):
    settings = {"calibration": "held-out", **settings}
    return train(*arguments, method="patchcore", options=OPTIONS, progress=False, **settings)


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    return silently(tiny_data.folder / "mvtec", out=tmp_path_factory.mktemp("runs") / "bank")


def test_the_bundle_is_certified_and_has_its_provenance(run, tiny_data):
    manifest = open_bundle(run).manifest
    assert manifest.certificate.verdict_agreement == 1
    assert manifest.certificate.score_difference < 1e-4
    assert manifest.certificate.noise == 0
    assert manifest.certificate.images == 3  # the validation images cut from the sixteen for training
    assert manifest.provenance.data["counts"] == {"train": 11, "tuning": 2, "val": 3, "test": 20}
    assert manifest.provenance.options["coreset_ratio"] == 0.2
    assert manifest.decision.reject >= manifest.decision.review
    assert "cannot promise" in manifest.calibration.warnings[0]
    assert not (run / "checkpoints").exists()


def test_defects_are_rejected_and_found_where_they_are(run, tiny_data):
    inspector = Inspector.open(run)
    defects = [s for s in read_dataset(tiny_data.folder / "mvtec").split("test").samples if s.defective]
    results = list(inspector.inspect(defects))
    assert sum(r.verdict != Verdict.PASS for r in results) >= len(defects) - 1
    for sample, result in zip(defects, results, strict=True):
        mask = cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE) > 127
        assert result.heat_map.shape == mask.shape
        y, x = np.unravel_index(result.heat_map.argmax(), mask.shape)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((17, 17)))
        assert near[y, x], "the hottest pixel lies far from the defect"


def test_network_comes_back_from_the_run_folder(run):
    method = load_method(run)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        own = method(images)["anomaly_score"].numpy()
    np.testing.assert_allclose(Inspector.open(run).engine.run(images.numpy()).anomaly_score, own, rtol=1e-4)


def test_resume_ships_trained_runs_and_trains_others(run, tiny_data, tmp_path):
    other = silently(tiny_data.folder / "mvtec", out=tmp_path / "bank")
    expected = load_file(other / "weights.safetensors")["bank"]
    find_bundle(other).unlink()
    resume(other, progress=False)
    assert open_bundle(other).graph == open_bundle(run).graph
    find_bundle(other).unlink()
    (other / "weights.safetensors").unlink()
    resume(other, progress=False)
    torch.testing.assert_close(load_file(other / "weights.safetensors")["bank"], expected)
    listed = (other / "split.csv").read_text()
    (other / "split.csv").write_text(listed.replace("train/good/", "lost/good/", 1))
    with pytest.raises(OptionError, match=r"split\.csv' is cut off, or was changed"):
        resume(other, progress=False)
    write_config(other, read_config(other))
    with pytest.raises(DataError, match="are missing"), pytest.warns(AnnotationWarning):
        resume(other, progress=False)


@pytest.fixture
def ctrl_c():
    """Ctrl-C, which is heard also where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda *_: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_an_interruption_says_how_to_go_on(ctrl_c, tiny_data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(PatchCore, "training_step", ctrl_c)
    caplog.set_level("INFO", "blemish")
    options = {"method": "patchcore", "options": OPTIONS, "progress": False, "calibration": "held-out"}
    with pytest.raises(KeyboardInterrupt):
        train(tiny_data.folder / "mvtec", out=tmp_path / "cut", **options)
    assert caplog.messages[-1] == f"continue with: blemish train --resume {tmp_path / 'cut'}"
    monkeypatch.undo()
    assert find_bundle(resume(tmp_path / "cut", progress=False)).exists()
    with pytest.raises(KeyboardInterrupt):  # and the next one is heard
        ctrl_c()


def test_a_second_run_never_overwrites_the_first(run, tiny_data):
    with pytest.raises(OptionError, match="already holds a run"):
        silently(tiny_data.folder / "mvtec", out=run)


def test_export_refuses_a_graph_that_disagrees(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="differs from the network"):
        silently(tiny_data.folder / "mvtec", out=tmp_path / "refused")
    assert not list((tmp_path / "refused").glob("*.blemish"))
    assert (tmp_path / "refused" / "weights.safetensors").exists()


def test_cross_fitting_uses_every_good_image(tiny_data, tmp_path):
    run = silently(tiny_data.folder / "mvtec", out=tmp_path / "crossed", calibration="cross-fitted", folds=4)
    manifest = open_bundle(run).manifest
    assert manifest.calibration.source == "cross-fitted"
    assert manifest.calibration.good_images == 16
    assert manifest.provenance.data["counts"] == {"train": 14, "tuning": 2, "val": 0, "test": 20}
    assert not (run / "folds").exists()


def test_without_good_images_there_is_nothing_to_learn(tiny_data, tmp_path):
    (tmp_path / "all.csv").write_text(f"image,label,split\n{tiny_data.folder}/mvtec/test/pit/000.png,pit,train\n")
    with pytest.raises(DataError, match="is trained on good images and there are none"):
        silently(tmp_path / "all.csv", out=tmp_path / "run")


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_the_bars_of_a_letterbox_do_not_change_the_score(tmp_path, fit):
    """Good images in shades of their own, and so bars, which PatchCore does not learn: they would score the highest."""
    rng = np.random.default_rng(0)
    rows = ["image,label,split"]
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.normal(128, 40, (40, 128)).clip(0, 255))
        rows.append(f"{i}.png,good,{'val' if i >= 8 else 'train'}")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    run = silently(tmp_path / "data.csv", out=tmp_path / "run", fit=fit)
    assert open_bundle(run).manifest.score_source == ("map" if fit == "letterbox" else "graph")
    for result in Inspector.open(run).inspect(read_dataset(tmp_path / "data.csv").samples[8:]):
        assert result.score == pytest.approx(float(result.heat_map.max())) or fit == "stretch"


@pytest.mark.parametrize(
    ("method", "options", "worst"), [("subspace", {"worst": 0.2}, 0.2), ("dfm", {"score": "nll", "pooling": 1}, 0.0)]
)
def test_a_score_of_valid_pixels_is_the_one_of_the_options_or_that_is_said(tiny_data, tmp_path, method, options, worst):
    given = {"image_size": 64, "backbone": "test_resnet", "weights": "random", **options}
    run = train(
        tiny_data.folder / "mvtec", out=tmp_path / "run", method=method, options=given, progress=False,
        calibration="held-out", refine="off", fit="letterbox",
    )  # fmt: skip
    image = next((tiny_data.folder / "mvtec" / "test" / "scratch").iterdir())
    result = Inspector.open(run).inspect(image)
    pixels = np.sort(result.heat_map.ravel())[::-1]
    assert result.score == pytest.approx(float(pixels[: max(1, round(worst * pixels.size))].mean()), rel=1e-4)
    said = [line for line in open_bundle(run).manifest.calibration.warnings if "has no effect" in line]
    assert [line.split()[0] for line in said] == (["score=nll"] if method == "dfm" else [])


def test_ignored_pixels_are_used_neither_in_training_nor_in_the_verdict(tiny_data, tmp_path):
    rows = ["image,label,split,ignore"]
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    rng = np.random.default_rng(0)
    for i in range(14):
        image = rng.normal(128, 6, (64, 64))
        image[:, :32] = rng.uniform(0, 255, (64, 32))  # where pixels do not count, anything may be
        if i >= 12:
            image[20:32, 44:56] = 250
        cv2.imwrite(str(tmp_path / f"{i}.png"), image.clip(0, 255))
        label, split = ("dent", "test") if i >= 12 else ("good", "val" if i >= 9 else "train")
        rows.append(f"{i}.png,{label},{split},left.png")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    run = silently(tmp_path / "data.csv", out=tmp_path / "run")
    assert open_bundle(run).manifest.score_source == "map"
    samples = read_dataset(tmp_path / "data.csv").samples
    results = list(Inspector.open(run).inspect(samples))
    assert all(r.verdict == Verdict.REJECT for r in results[12:])
    assert all(region.box[0] >= 32 for r in results for region in r.regions)
    assert min(r.score for r in results[12:]) > max(r.score for r in results[:12])
    # The line has pictures, not samples: the mask that all have in common is in the bundle.
    alone = list(Inspector.open(run).inspect([sample.image for sample in samples]))
    assert [(r.score, r.verdict, len(r.regions)) for r in alone] == [
        (r.score, r.verdict, len(r.regions)) for r in results
    ]
    larger = cv2.resize(cv2.imread(str(samples[12].image)), (128, 128), interpolation=cv2.INTER_NEAREST)
    assert Inspector.open(run).inspect(larger).valid[:, :64].sum() == 0


def test_a_graph_that_comes_to_other_verdicts_is_refused(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "verdict_agreement", lambda *_: 0.5)
    with pytest.raises(ExportError, match="the same verdict on only 50%"):
        silently(tiny_data.folder / "mvtec", out=tmp_path / "refused")
    assert not list((tmp_path / "refused").glob("*.blemish"))


def test_the_network_sees_all_channels_of_images_that_have_others_than_three(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        image = rng.integers(0, 255, (48, 48, 5), dtype=np.uint8)
        write_image(tmp_path / "data" / "good" / f"{i}.tif", image)
    run = silently(tmp_path / "data", out=tmp_path / "run")
    assert open_bundle(run).manifest.input.channels == 5


def test_features_beyond_the_budget_are_condensed_as_they_come(monkeypatch):
    monkeypatch.setattr("blemish.methods.feature_distance.patchcore.COLOUR_BANK", 300)
    options = PatchCoreOptions(image_size=64, coreset_ratio=0.5, memory_mb=16, max_vectors=300, colour=0.3)
    method = PatchCore(options, ("good", "defect")).eval()
    method._capacity = 400  # some three batches' worth
    torch.manual_seed(0)
    held = []
    for _ in range(30):
        method.training_step({"image": torch.rand(2, 3, 64, 64), "valid": torch.ones(2, 64, 64, dtype=torch.bool)}, 0)
        held += [len(method._buffer), len(method._colours)]
    method.finish()
    assert max(held) <= 400
    assert method.bank.shape == (300, 152)
    assert method.colour_bank.shape == (300, 8)


TWO_PROCESSES = """
import json, sys
from blemish.training.train import train
if __name__ == "__main__":
    train(sys.argv[1], out=sys.argv[2], method=sys.argv[3], progress=False,
          options=json.loads(sys.argv[4]), trainer={"accelerator": "cpu", "devices": 2, "strategy": "ddp"})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "learned", "options"),
    [("patchcore", "bank", {}), ("patchcore", "colour_bank", {"colour": 0.3}), ("padim", "mean", {})],
)
def test_two_processes_train_the_same_as_one(method, learned, options, tiny_data, tmp_path):
    options = {"image_size": 64, **options}
    script = tmp_path / "go.py"
    script.write_text(TWO_PROCESSES)
    data = tiny_data.folder / "mvtec"
    command = [sys.executable, str(script), str(data), str(tmp_path / "two"), method, json.dumps(options)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, start_new_session=True
    )  # what ends its processes together does not reach this one
    assert done.returncode == 0, done.stderr[-2000:]
    alone = {"accelerator": "cpu"}  # as the two, on a machine with an accelerator too
    train(
        data,
        out=tmp_path / "one",
        method=method,
        options=options,
        trainer=alone,
        progress=False,
        calibration="held-out",
    )
    one, two = (load_file(tmp_path / name / "weights.safetensors")[learned] for name in ("one", "two"))
    assert one.shape == two.shape
    if method == "patchcore":  # the bank's order is that of picking, which may differ
        apart = torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist")
        assert max(float(apart.amin(dim=0).amax()), float(apart.amin(dim=1).amax())) < 1e-3 * float(one.abs().amax())
        return
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3)


def test_a_strategy_that_does_not_suit_is_named():
    with pytest.raises(OptionError, match="does not suit a one-pass method"):
        with_collecting_strategy({"devices": 2, "strategy": "fsdp"})


@pytest.mark.parametrize(("steps", "batches"), [(1200, 101), (1200, 1), (7, 100), (997, 83), (1, 1), (30, 29)])
def test_the_last_validation_meets_the_end_of_the_training(steps, batches):
    every = validation_interval(steps, batches)
    last = steps // every * every
    assert steps - last < MAX_VALIDATIONS  # as good as the end, where the rate is all but zero
    assert 1 <= steps // every <= max(MAX_VALIDATIONS, round(steps / batches))
    if steps // every < MAX_VALIDATIONS - 1 and steps > batches:
        assert 0.6 * batches < every < 1.6 * batches  # about an epoch


def test_a_training_that_ends_within_an_epoch_is_validated_at_its_end(tiny_data, tmp_path):
    options = {
        "backbone": "test_resnet", "weights": "random", "image_size": 64, "batch_size": 2, "width": 4, "steps": 3,
    }  # fmt: skip
    run = train(
        tiny_data.folder / "labelled.csv", out=tmp_path / "run", method="unet", options=options,
        progress=False, trainer={"accelerator": "cpu"},
    )  # fmt: skip
    with (run / "log" / "metrics.csv").open() as file:
        validated = [int(row["step"]) for row in csv.DictReader(file) if row.get("val_iou")]
    assert validated == [2]  # counted from 0


@pytest.mark.parametrize(("min_score", "some"), [(0.001, True), (0.99, False)])
def test_the_certificate_has_the_number_of_compared_boxes(min_score, some, tiny_data, tmp_path, capsys):
    options = {"backbone": "test_resnet", "weights": "random", "image_size": 64, "width": 16, "steps": 2}
    run = train(
        tiny_data.folder / "labelled.csv",
        out=tmp_path / "run",
        method="retinanet",
        options={**options, "min_score": min_score},
        progress=False,
    )
    certificate = open_bundle(run).manifest.certificate
    assert (certificate.detections > 0) is some
    assert (certificate.detections_matched is not None) is some
    _show(run)
    assert ("no boxes were detected" in capsys.readouterr().out) is not some


def test_the_certificate_of_a_map_has_no_boxes(run):
    assert open_bundle(run).manifest.certificate.detections is None


def test_a_bank_of_a_single_image_is_certified_although_it_contains_that_image(tiny_data, tmp_path):
    one = read_dataset(tiny_data.folder / "mvtec")
    good = next(s for s in one.samples if s.split == "train")
    one = one.with_samples([good, *one.split("test").samples])
    write_csv(one, tmp_path / "one.csv")
    run = train(
        tmp_path / "one.csv",
        out=tmp_path / "run",
        method="patchcore",
        options={"image_size": 64, "coreset_ratio": 1.0},
        progress=False,
    )
    certificate = open_bundle(run).manifest.certificate
    assert (certificate.images, certificate.noise) == (1, 0.02)
    assert certificate.map_difference < 1e-3
    assert certificate.map_difference_absolute > 0  # it compared something
