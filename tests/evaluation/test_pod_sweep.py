"""The sweep with a bundle whose score is known: the sum of the absolute change of an even surface."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from graphs import anomaly_bundle, make_bundle, model
from onnx import helper
from web_page import read_page

from blemish.cli import main
from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, OptionError
from blemish.evaluation import pod_sweep
from blemish.evaluation.pod_sweep import pod
from blemish.files import file_sha256
from blemish.imaging.read import read_image, write_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision, Scale
from blemish.inspection.seen_images import SEEN, pack_seen
from blemish.report.pod_page import size_text
from blemish.synthesis.sized_defect import draw_sized_defect

GREY = 128
THRESHOLD = 6.0  # sum of the change, in full scales: about 12 px of a change by half


def changed_pixels(path, threshold=THRESHOLD, **fields):
    """A bundle that rejects where the change against an even surface, summed over pixels, reaches a threshold."""
    nodes = [
        helper.make_node("Sub", ["images", "even"], ["change"]),
        helper.make_node("Abs", ["change"], ["size"]),
        helper.make_node("ReduceSum", ["size", "axes"], ["anomaly_score"], keepdims=0),
    ]
    constants = [("even", np.float32([GREY / 255])), ("axes", np.int64([1, 2, 3]))]
    graph = model(nodes, {"anomaly_score": ["n"]}, constants=constants)
    return make_bundle(path, graph, ["anomaly_score"], Decision(reject=threshold), side=96, **fields)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Dataset:
    """Even good images, one of them with a bright corner that is a false alarm."""
    root = tmp_path_factory.mktemp("even")
    for number in range(22):
        image = np.full((96, 96, 1), GREY, np.uint8)
        image[:8, :8] = 255 if number == 0 else GREY
        image[0, 8 + number] += 1  # equal pixels would be one part
        path = root / "test" / "good" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
    return read_dataset(root).split("test")


@pytest.fixture(scope="module")
def inspector(tmp_path_factory):
    return Inspector.open(changed_pixels(tmp_path_factory.mktemp("sum") / "sum.blemish"))


def test_false_alarms_are_of_parts(inspector, surfaces):
    shots = [replace(s, group=f"part {i // 11}") for i, s in enumerate(surfaces.samples)]
    result = pod(inspector, surfaces.with_samples(shots), kinds=["pit"], contrasts=[0.9], trials=2)
    assert (result.false_alarms.value, result.false_alarms.n) == (pytest.approx(1 / 22), 2)
    assert result.false_alarms.high > 0.98  # of one of two


def test_hits_are_those_of_the_bundle_and_the_curve_is_where_it_switches(inspector, surfaces):
    seen = []
    result = pod(
        inspector, surfaces, kinds=["pit"], contrasts=[0.3, 0.9], on_trial=lambda *own: seen.append(own), seed=1
    )
    assert (result.false_alarms.value, result.false_alarms.n, result.surfaces) == (1 / 22, 22, 21)
    assert len(seen) == len(result.trials) == 120
    for trial, image in seen:
        assert image.dtype == np.uint8
        assert trial.hit == (np.abs(image.astype(float) - GREY).sum() / 255 >= THRESHOLD), trial
        x0, y0, x1, y1 = trial.box
        inside = np.zeros(image.shape[:2], bool)
        inside[y0:y1, x0:x1] = True
        assert (image[..., 0] != GREY)[inside].any()
        assert trial.image != str(surfaces.samples[0].image)  # a false alarm carries no defect
    # Half of the area of a pit at the threshold, by its measured contrast; a steep curve lies at its diameter.
    for curve in result.curves:
        diameter = np.sqrt(4 / np.pi * THRESHOLD / curve.contrast)
        middle = curve.fit.a50 or np.sqrt(curve.fit.smallest_hit * curve.fit.largest_miss)
        assert middle == pytest.approx(diameter, rel=0.3)
    assert result.curves[0].fit.largest_miss > result.curves[1].fit.largest_miss  # the fainter is found later


def test_second_half_lies_where_defects_are_found_as_well_as_missed(inspector, surfaces):
    result = pod(inspector, surfaces, kinds=["pit"], contrasts=[0.5], trials=60)
    first, second = result.trials[:30], result.trials[30:]
    spread = [np.ptp(np.log([trial.size_px for trial in half])) for half in (first, second)]
    assert spread[1] < 0.7 * spread[0]
    assert any(trial.hit for trial in second)
    assert not all(trial.hit for trial in second)


def test_same_seed_same_trials(inspector, surfaces):
    first, again = (pod(inspector, surfaces, kinds=["stain"], contrasts=[0.3], trials=12, seed=5) for _ in range(2))
    other = pod(inspector, surfaces, kinds=["stain"], contrasts=[0.3], trials=12, seed=6)
    assert first.trials == again.trials
    assert [t.box for t in first.trials] != [t.box for t in other.trials]


def test_sizes_in_mm_follow_the_scale(tmp_path, surfaces):
    scaled = Inspector.open(changed_pixels(tmp_path / "mm.blemish", scale=Scale(x=4, y=9)))
    curve = pod(scaled, surfaces, kinds=["stain"], contrasts=[0.3], sizes=(3, 40)).to_dict()["curves"][0]
    assert curve["a50"] is not None
    assert (curve["a50_mm"], curve["a50_mm_low"]) == pytest.approx((curve["a50"] / 4, curve["a50"] / 9))
    assert [size_text(12.0, own) for own in ((4.0, 9.0), (9.0, 4.0), (4.0, 4.0), None)] == [
        "12 px (1.3–3 mm)", "12 px (1.3–3 mm)", "12 px (3 mm)", "12 px",
    ]  # fmt: skip


def test_located_counts_the_hits_that_a_region_touches(tmp_path, surfaces):
    """Light stains exceed the region threshold of a map that is the grey image; dark ones never reach it."""
    grey = Inspector.open(anomaly_bundle(tmp_path / "grey.blemish", Decision(reject=0.55, map_high=0.55), side=96))
    result = pod(grey, surfaces, kinds=["stain"], contrasts=[0.6], trials=30, sizes=(6, 30))
    hits = [trial for trial in result.trials if trial.hit]
    assert hits
    assert all(trial.located for trial in hits)
    assert not any(trial.located for trial in result.trials if not trial.hit)
    assert result.curves[0].located.value == 1


def test_defects_stay_in_the_inspected_pixels(tmp_path, surfaces, inspector):
    region = np.zeros((96, 96, 1), np.uint8)
    region[20:60, 30:80] = 255
    write_image(tmp_path / "roi.png", region)
    limited = surfaces.with_samples(
        [Sample(s.image, s.label, s.split, roi=tmp_path / "roi.png") for s in surfaces.samples]
    )
    result = pod(inspector, limited, kinds=["scratch", "pit"], contrasts=[0.6], trials=12)
    for trial in result.trials:
        x0, y0, x1, y1 = trial.box
        assert x0 >= 30
        assert y0 >= 20
        assert x1 <= 80
        assert y1 <= 60


def test_few_good_images_are_said(inspector, surfaces):
    result = pod(inspector, surfaces.with_samples(surfaces.samples[1:6]), kinds=["pit"], contrasts=[0.5], trials=10)
    assert "only 5 good images carry all defects" in str(result.warnings[0])


def test_good_images_that_the_bundle_has_seen_are_said(tmp_path, surfaces):
    hashes = {file_sha256(s.image)[:16]: "train" for s in surfaces.samples[:4]}
    own = Inspector.open(changed_pixels(tmp_path / "seen.blemish", extra={SEEN: pack_seen(hashes)}))
    for samples, said in ((surfaces.samples, ["4 of the 22 good images"]), (surfaces.samples[4:], [])):
        result = pod(own, surfaces.with_samples(samples), kinds=["pit"], contrasts=[0.9], trials=2)
        warned = [str(warning) for warning in result.warnings if "trained" in str(warning)]
        assert len(warned) == len(said)
        assert all(part in line for part, line in zip(said, warned, strict=True))


def test_no_good_image_or_none_that_passes_is_an_error(tmp_path, surfaces, inspector):
    with pytest.raises(DataError, match="no good images"):
        pod(inspector, surfaces.with_samples([Sample(surfaces.samples[0].image, "pit")]))
    strict = Inspector.open(changed_pixels(tmp_path / "strict.blemish", threshold=-1.0))
    with pytest.raises(DataError, match=r"none of the 22 good images passes as it is .*threshold"):
        pod(strict, surfaces)


@pytest.mark.parametrize(
    "options",
    [
        {"kinds": ["scrach"]}, {"kinds": []}, {"contrasts": [0]}, {"contrasts": [1.5]}, {"contrasts": [0.3, 0.3]},
        {"sizes": (9, 3)}, {"sizes": (0.5, 3)}, {"trials": 1},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(inspector, surfaces, options):
    with pytest.raises(OptionError):
        pod(inspector, surfaces, **options)


def test_interruption_keeps_the_trials_done(inspector, surfaces):
    count = 0

    def interrupt(trial, image):
        nonlocal count
        count += 1
        if count == 25:
            raise KeyboardInterrupt

    result = pod(inspector, surfaces, kinds=["pit", "stain"], contrasts=[0.5], on_trial=interrupt)
    assert not result.complete
    assert len(result.trials) == 25
    assert "interrupted after 25 trials" in str(result.warnings[0])
    assert all(curve.fit.trials >= 5 for curve in result.curves)  # in turn, not one after the other


@pytest.mark.parametrize("kind", sorted(pod_sweep.SIZE_RANGES))
def test_a_drawn_defect_has_the_size_it_states(kind):
    image = np.full((128, 128, 3), 0.5, np.float32)
    for length in (6, 24, 60):
        drawn = draw_sized_defect(image, kind, length, 0.8, (3, length))
        ys, xs = np.nonzero(drawn.mask)
        points = np.stack([xs, ys], axis=1).astype(float)
        extent = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)).max() + 1
        assert drawn.length == pytest.approx(extent, rel=0.25, abs=2.5)
        assert drawn.contrast == pytest.approx(np.abs(drawn.image - image).mean(axis=2)[drawn.mask].mean())


def test_a_faint_defect_is_drawn_too():
    image = np.full((128, 128, 1), 0.5, np.float32)
    drawn = draw_sized_defect(image, "pit", 20, 0.005, (1,))
    assert drawn is not None
    assert 0 < drawn.contrast < 0.01


def run_cli(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_command_writes_page_and_json(tmp_path, surfaces, monkeypatch, capsys):
    bundle = changed_pixels(tmp_path / "sum.blemish")
    code, out, _ = run_cli(
        monkeypatch, capsys, "pod", bundle, surfaces.root, "--defects", "pit,scratch", "--contrast", "0.5", "--json",
        tmp_path / "pod.json", "--language", "zh", "--size", "3,40", "--trials", "20",
    )  # fmt: skip
    assert code == 0
    assert "false alarms: 4.5" in out
    data = json.loads((tmp_path / "pod.json").read_text(encoding="utf-8"))
    assert [curve["kind"] for curve in data["curves"]] == ["pit", "scratch"]
    assert len(data["trials"]) == 40
    assert len(data["assumptions"]) == 5
    checker, words = read_page(tmp_path / "sum-pod.html")
    assert checker.images == 12
    for part in ("按尺寸的检出概率", "误报", "所作的假设", "划痕", "检出"):
        assert part in words
    for english in ("Probability", "trials", "found", "missed", "assumes", "contrast"):
        assert english not in words
    assert read_image(surfaces.samples[3].image).max() == GREY + 1  # the user's images are as they were


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contrast", "a"], "--contrast a: give numbers"), (["--size", "3"], "as LOW,HIGH"),
        (["--defects", "scrach"], "scratch"), (["--language", "xx"], "unknown language"),
    ],
)  # fmt: skip
def test_command_refuses_in_one_line(tmp_path, surfaces, monkeypatch, capsys, arguments, message):
    bundle = changed_pixels(tmp_path / "sum.blemish")
    code, _, err = run_cli(monkeypatch, capsys, "pod", bundle, surfaces.root, *arguments)
    assert code == 2
    assert message in err
