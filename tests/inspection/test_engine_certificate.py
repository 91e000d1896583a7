"""Certificates of engines: what agrees holds, what does not is found, whatever of the outputs it is."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from graphs import anomaly_bundle
from typer.testing import CliRunner

from blemish.cli import build_app
from blemish.cli.certify import MAX_IMAGES
from blemish.cli.certify import _images as find_compared
from blemish.dataset.sample import Sample
from blemish.errors import BlemishError, BundleError, OptionError
from blemish.imaging.read import write_image
from blemish.inspection.bundle import open_bundle, replace_manifest
from blemish.inspection.engine_certificate import (
    certificates_file,
    certify_engine,
    find_certificate,
    keep_certificate,
    read_certificates,
)
from blemish.inspection.engines import OpenVino
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Compression


class Altered:
    """An engine whose outputs are those of another one, changed."""

    name, threads, device = "openvino", None, "cpu"

    def __init__(self, engine, change):
        self.engine, self.change = engine, change

    def run(self, batch):
        return self.change(self.engine.run(batch))


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(tmp_path / "g.blemish", side=64)


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 80, (64, 64, 1), np.uint8)
        if i % 2:
            image[20:40, 10:30] = 230
        write_image(tmp_path / "images" / f"{i}.png", image)
    return [Sample(tmp_path / "images" / f"{i}.png") for i in range(4)]


def certified(bundle, samples, change):
    inspector = Inspector.open(bundle)
    altered = Inspector(inspector.bundle, Altered(inspector.engine, change), inspector.manifest)
    return certify_engine(altered, inspector, samples)


def test_the_same_outputs_hold(bundle, samples):
    certificate = certified(bundle, samples, lambda outputs: outputs)
    assert certificate.holds
    assert (certificate.images, certificate.verdict_agreement) == (4, 1)
    assert (certificate.score_difference, certificate.map_difference) == (0, 0)
    assert min(certificate.latency_ms, certificate.reference_latency_ms) > 0


def scale_score(outputs):
    return replace(outputs, anomaly_score=outputs.anomaly_score * np.float32(1.01))


def shift_one_pixel(outputs):
    changed = outputs.anomaly_map.copy()
    changed[..., 3, 5] += 0.02
    return replace(outputs, anomaly_map=changed)


@pytest.mark.parametrize(("change", "kind"), [(scale_score, "score_difference"), (shift_one_pixel, "map_difference")])
def test_outputs_beyond_the_tolerance_do_not_hold_unless_accepted(bundle, samples, change, kind):
    certificate = certified(bundle, samples[1::2], change)
    assert getattr(certificate, kind) == pytest.approx(0.01 if kind.startswith("score") else 0.02 / 0.9, rel=0.1)
    assert not certificate.holds
    assert certificate.model_copy(update={"accepted": "A. Schmidt: a trial"}).holds


def no_number(outputs):
    return replace(outputs, anomaly_score=outputs.anomaly_score * np.float32(np.nan))


def no_number_at_one_pixel(outputs):
    changed = outputs.anomaly_map.copy()
    changed[..., 3, 5] = np.nan
    return replace(outputs, anomaly_map=changed)


def smaller_map(outputs):
    return replace(outputs, anomaly_map=outputs.anomaly_map[..., :1, :1])


@pytest.mark.parametrize("change", [no_number, no_number_at_one_pixel, smaller_map])
def test_outputs_that_are_no_numbers_differ_without_end(bundle, samples, change):
    certificate = certified(bundle, samples[:1], change)
    assert len(certificate.changed) <= 1  # as many as rounding may change
    assert max(certificate.score_difference, certificate.map_difference) == np.inf
    assert "outputs differ by inf" in certificate.problem
    keep_certificate(bundle, certificate)
    assert not find_certificate(read_certificates(bundle), "openvino", "cpu").holds


def test_values_that_both_engines_leave_open_are_the_same(bundle, samples):
    inspector = Inspector.open(bundle)

    class Open(Altered):
        name = "onnxruntime"

    reference = Inspector(inspector.bundle, Open(inspector.engine, no_number_at_one_pixel), inspector.manifest)
    target = Inspector(inspector.bundle, Altered(reference.engine, lambda o: scale_score(o)), inspector.manifest)
    certificate = certify_engine(target, reference, samples)
    assert certificate.map_difference == 0
    assert certificate.score_difference == pytest.approx(0.01, rel=1e-3)


def test_another_verdict_does_not_hold_though_outputs_hardly_differ(bundle, samples):
    inspector = Inspector.open(bundle)
    score = inspector.inspect(samples[1]).score
    decision = inspector.manifest.decision.model_copy(
        update={"reject": score, "review": None, "map_high": None, "map_low": None}
    )
    replace_manifest(bundle, inspector.manifest.model_copy(update={"decision": decision}))
    certificate = certified(
        bundle, samples[1::2], lambda o: replace(o, anomaly_score=o.anomaly_score * np.float32(1 - 1e-5))
    )
    assert certificate.score_difference < certificate.tolerance
    assert not certificate.holds
    assert [(c.reference, c.verdict) for c in certificate.changed] == [("reject", "pass")] * 2
    one = certified(bundle, samples[:2], lambda o: replace(o, anomaly_score=o.anomaly_score * np.float32(1 - 1e-5)))
    assert len(one.changed) == 1  # rounding at the threshold
    assert one.holds


def test_certificates_lie_next_to_the_bundle_and_are_of_its_bytes(bundle, samples):
    first = certified(bundle, samples, lambda outputs: outputs)
    keep_certificate(bundle, first)
    keep_certificate(bundle, first.model_copy(update={"device": "gpu", "problem": "differs"}))
    keep_certificate(bundle, first.model_copy(update={"created": "2999-01-01T00:00:00+00:00"}))  # in place of the first
    kept = read_certificates(bundle)
    assert sorted(c.device for c in kept) == ["cpu", "gpu"]
    assert find_certificate(kept, "openvino", "cpu").created.startswith("2999")
    assert find_certificate(kept, "onnxruntime", "cpu") is None
    manifest = open_bundle(bundle).manifest
    replace_manifest(bundle, manifest.model_copy(update={"name": "another"}))
    assert read_certificates(bundle) == []
    certificates_file(bundle).write_text("[{")
    with pytest.raises(BundleError, match="certify again"):
        read_certificates(bundle)


def test_without_images_nothing_is_certified(bundle):
    inspector = Inspector.open(bundle)
    with pytest.raises(OptionError, match="--images"):
        certify_engine(inspector, inspector, [])


def certify(*arguments):
    return CliRunner().invoke(build_app(), ["certify", *map(str, arguments)])


def test_the_command_certifies_refuses_and_lets_somebody_accept(bundle, samples, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    done = certify(bundle, "--images", tmp_path / "images", "--engine", "openvino")
    assert done.exit_code == 0, done.output
    assert "openvino on cpu: 4 images" in " ".join(done.output.split())
    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda self, batch: scale_score(run(self, batch)))
    done = certify(bundle, "--images", tmp_path / "images", "--engine", "openvino")
    assert isinstance(done.exception, BlemishError)
    assert "does not hold" in str(done.exception)
    assert not find_certificate(read_certificates(bundle), "openvino", "cpu").holds
    done = certify(bundle, "--images", tmp_path / "images", "--engine", "openvino", "--accept", "A. Schmidt: a trial")
    assert done.exit_code == 0
    assert find_certificate(read_certificates(bundle), "openvino", "cpu").accepted == "A. Schmidt: a trial"
    done = certify(bundle, "--engine", "openvino")
    assert "--images" in str(done.exception)


def test_the_command_takes_images_evenly_from_all_of_the_run(bundle, samples, tmp_path):
    """65 good images, then 35 defective ones: all kinds are compared, not the first 64."""
    names = ["images/0.png"] * 65 + ["images/1.png"] * 35
    for i, name in enumerate(names):
        shutil.copy(tmp_path / name, tmp_path / f"{i:03}.png")
    rows = [f"{i:03}.png,{'good' if i < 65 else 'pit'},val" for i in range(100)]
    (tmp_path / "split.csv").write_text("image,label,split\n" + "\n".join(rows) + "\n")
    taken, trained_on = find_compared(bundle, None)
    assert (len(taken), trained_on) == (MAX_IMAGES, False)
    assert sum(sample.label == "pit" for sample in taken) == pytest.approx(0.35 * MAX_IMAGES, abs=1)
    assert len({sample.image for sample in taken}) == MAX_IMAGES


def test_the_command_says_that_a_compressed_bundle_has_its_comparison_in_it(bundle, samples, tmp_path):
    made = Compression(
        engine="onnxruntime", source_sha256="", calibration_images=1, images=1, defective=0, changed_verdicts=0,
        max_auroc_loss=0.005, max_verdict_changes=0.005, latency_ms=(2.0, 1.0), graph_bytes=(2, 1), versions={},
    )  # fmt: skip
    replace_manifest(bundle, open_bundle(bundle).manifest.model_copy(update={"compression": made}))
    done = certify(bundle, "--images", tmp_path / "images", "--engine", "onnxruntime")
    assert "certify that one" in str(done.exception)
    assert not certificates_file(bundle).exists()
