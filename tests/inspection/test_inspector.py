"""From an image of known geometry to its regions: any size and depth, with and without tiles, batches and threads."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from graphs import anomaly_bundle, fixed_boxes, grey_anomaly, grey_classes, make_bundle, two_masks

from blemish.dataset.sample import Sample
from blemish.errors import BundleError, DecisionError, ImageError, MissingExtraError, OptionError
from blemish.imaging.read import write_image
from blemish.imaging.roi import Roi
from blemish.inspection.engines import open_engine
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Calibration, Decision, ProductDecision, Tiling
from blemish.inspection.pipeline import FailedInspection
from blemish.inspection.result import Inspection, Verdict

SQUARE = (96, 64, 160, 96)  # x0 y0 x1 y1, on pixels that every scale below keeps whole


def picture(height=128, width=256, box=SQUARE, dtype=np.uint8, channels=1):
    """Dark, with one bright rectangle."""
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.full((height, width, channels), 0.1 * top, dtype)
    if box is not None:
        image[box[1] : box[3], box[0] : box[2]] = 0.9 * top
    return image


def only_box(inspection, expected, tolerance=0):
    assert [region.label for region in inspection.regions] == ["defect"]
    difference = np.abs(np.subtract(inspection.regions[0].box, expected)).max()
    assert difference <= tolerance, (inspection.regions[0].box, expected)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return anomaly_bundle(tmp_path_factory.mktemp("grey") / "grey.blemish", side=64)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize(("side", "tolerance"), [(64, 2), (256, 1), (300, 2)])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.float32, 1)])
def test_a_bright_square_is_found_where_it_is(tmp_path, fit, side, tolerance, dtype, channels):
    path = anomaly_bundle(tmp_path / "g.blemish", side=side, fit=fit)
    image = picture(dtype=dtype, channels=channels)
    before = image.copy()
    result = Inspector.open(path).inspect(image)
    np.testing.assert_array_equal(image, before)
    # Smaller networks see a blurred edge: a pixel of theirs is up to four of the image's.
    only_box(result, SQUARE, tolerance)
    assert (result.verdict, result.label, result.size) == (Verdict.REJECT, "defect", (128, 256))
    assert result.score == pytest.approx(0.9, abs=0.01)
    assert result.heat_map.shape == (128, 256)
    assert result.regions[0].measurements is not None
    assert set(result.timings_ms) == {"read", "prepare", "network", "decode"}
    assert result.reasons


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 500), (500, 1), (3, 7), (64, 64), (63, 65), (1000, 30), (517, 391)]
)
@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_images_of_any_size(tmp_path, height, width, tile, fit):
    inspector = Inspector.open(anomaly_bundle(tmp_path / "g.blemish", fit=fit), tile=tile)
    dark = inspector.inspect(picture(height, width, None))
    assert (dark.verdict, dark.regions, dark.size) == (Verdict.PASS, [], (height, width))
    assert dark.heat_map.shape == (height, width)
    bright = inspector.inspect(picture(height, width, (0, 0, width, height)))
    assert bright.verdict == Verdict.REJECT
    only_box(bright, (0, 0, width, height))


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_tiles_at_full_resolution_find_it_to_the_pixel(grey, overlap, batch_size):
    inspector = Inspector.open(grey, tile=64, overlap=overlap, batch_size=batch_size)
    rng = np.random.default_rng(3)
    for _ in range(5):
        x0, y0 = (int(v) for v in rng.integers(0, 150, 2))
        box = (x0, y0, x0 + int(rng.integers(3, 120)), y0 + int(rng.integers(3, 120)))
        image = picture(300, 275, box)
        result = inspector.inspect(image)
        only_box(result, box)
        # the stitched map is the image itself
        np.testing.assert_allclose(result.heat_map, image[..., 0] / 255, atol=1e-5)
        assert result.regions[0].mask.all()


def test_tiling_of_the_bundle_and_without_it(tmp_path):
    path = anomaly_bundle(tmp_path / "g.blemish", tiling=Tiling(height=64, width=64))
    box = (101, 33, 140, 70)
    only_box(Inspector.open(path).inspect(picture(box=box)), box)
    assert len(Inspector.open(path).prepare(picture(box=box))) > 1
    assert len(Inspector.open(path, tile=0).prepare(picture(box=box))) == 1


def test_other_tiles_than_the_calibrated_ones_are_said(tmp_path):
    own = Calibration(source="validation", target="false-alarm rate 0.01", good_images=9)
    plain = anomaly_bundle(
        tmp_path / "p.blemish",
        calibration=own,
        products={"left": ProductDecision(decision=Decision(), calibration=own)},
    )
    tiled = anomaly_bundle(tmp_path / "t.blemish", calibration=own, tiling=Tiling(height=64, width=64, overlap=0.5))
    for path, options, words in (
        (plain, {}, None),
        (plain, {"tile": 0}, None),
        (plain, {"tile": 64}, "not calibrated for tiles of 64×64 px with an overlap of 0.25, but for images without"),
        (tiled, {"tile": 64, "overlap": 0.5}, None),
        (tiled, {"tile": 32}, "tiles of 32×32 px with an overlap of 0.5, but for tiles of 64×64"),
        (tiled, {"overlap": 0.25}, "overlap of 0.25, but for tiles of 64×64 px with an overlap of 0.5"),
        (tiled, {"tile": 0}, "images without tiles, but"),
    ):
        inspector = Inspector.open(path, **options)
        decided = [inspector.manifest, *inspector.manifest.products.values()]
        assert [one.calibration.warnings for one in decided] == [inspector.notes] * len(decided)
        assert len(inspector.notes) == (words is not None)
        assert words is None or words in inspector.notes[0]


def test_eight_thousand_by_two_thousand(grey):
    image = picture(8000, 2000, (1200, 7000, 1300, 7050))
    result = Inspector.open(grey, tile=512).inspect(image)
    assert result.heat_map.shape == (8000, 2000)
    assert len(result.regions) == 1
    x0, y0, x1, y1 = result.regions[0].box
    assert max(abs(x0 - 1200), abs(y0 - 7000), abs(x1 - 1300), abs(y1 - 7050)) <= 8  # 8 px of it are one of the graph's


def test_region_of_interest_and_masks(tmp_path):
    roi = Roi(image_height=128, image_width=256, rectangle=(64, 32, 192, 128), ignore=[[(150, 0), (170, 0), (170, 128), (150, 128)]])  # fmt: skip  # noqa: E501
    path = anomaly_bundle(tmp_path / "g.blemish", side=128, roi=roi, score_source="map")
    inspector = Inspector.open(path)
    only_box(inspector.inspect(picture()), (96, 64, 150, 96), 1)
    outside = inspector.inspect(picture(box=(0, 0, 60, 128)))
    assert (outside.verdict, outside.regions) == (Verdict.PASS, [])
    assert inspector.inspect(picture(box=(151, 40, 169, 120))).verdict == Verdict.PASS
    # defined on an image of half the size
    half = roi.model_copy(update={"image_height": 64, "image_width": 128, "rectangle": (32, 16, 96, 64), "ignore": []})
    scaled = Inspector.open(anomaly_bundle(tmp_path / "h.blemish", side=128, roi=half))
    only_box(scaled.inspect(picture()), SQUARE, 1)
    assert scaled.inspect(picture(box=(0, 0, 60, 128))).verdict == Verdict.PASS


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("source", ["map", "graph"])
def test_masks_of_one_image(tmp_path, source, tile):
    inspector = Inspector.open(anomaly_bundle(tmp_path / "g.blemish", score_source=source), tile=tile)
    image = picture()
    ignore = np.zeros((128, 256), bool)
    ignore[50:110, 80:180] = True
    assert inspector.inspect(image, ignore=ignore).verdict == Verdict.PASS
    assert inspector.inspect(image, valid=~ignore).verdict == Verdict.PASS
    assert inspector.inspect(image, valid=ignore).verdict == Verdict.REJECT
    with pytest.raises(ImageError, match="no valid pixels left"):
        inspector.inspect(image, valid=ignore, ignore=ignore)
    with pytest.raises(ImageError, match="same size"):
        inspector.inspect(image, ignore=ignore[:50])


def test_samples_bring_their_masks(tmp_path, grey):
    ignore = np.zeros((128, 256), bool)
    ignore[50:110, 80:180] = True
    write_image(tmp_path / "image.png", picture())
    write_image(tmp_path / "ignore.png", ignore)
    plain = Sample(tmp_path / "image.png")
    samples = [plain, Sample(tmp_path / "image.png", ignore=tmp_path / "ignore.png"),
               Sample(tmp_path / "image.png", roi=tmp_path / "ignore.png")]  # fmt: skip
    results = list(Inspector.open(grey).inspect(samples))
    assert [r.verdict for r in results] == [Verdict.REJECT, Verdict.PASS, Verdict.REJECT]
    assert Inspector.open(grey).inspect(samples[1]).verdict == Verdict.PASS
    assert results[0].source == str(tmp_path / "image.png")


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 1), (4, 3), (50, 2)])
def test_many_images_give_what_each_alone_gives_in_order(grey, tile, batch_size, workers):
    rng = np.random.default_rng(0)
    boxes = [(int(x), int(y), int(x) + 40, int(y) + 30) for x, y in rng.integers(0, 80, (13, 2))]
    images = [picture(130 + 7 * i, 140 + 3 * i, box) for i, box in enumerate(boxes)]
    inspector = Inspector.open(grey, tile=tile, batch_size=batch_size)
    results = list(inspector.inspect((image for image in images), workers=workers))
    assert [r.size for r in results] == [image.shape[:2] for image in images]
    for image, result in zip(images, results, strict=True):
        alone = inspector.inspect(image)
        assert result.score == pytest.approx(alone.score, rel=1e-6)
        np.testing.assert_allclose(result.heat_map, alone.heat_map, atol=1e-6)
        assert [r.box for r in result.regions] == [r.box for r in alone.regions]


def test_an_endless_iterable_is_read_lazily(grey):
    seen = []

    def camera():
        for number in itertools.count():
            seen.append(number)
            yield picture(64, 64, None)

    results = Inspector.open(grey, batch_size=2).inspect(camera())
    assert [next(results).verdict for _ in range(9)] == [Verdict.PASS] * 9
    results.close()
    assert len(seen) <= 9 + 8


def test_no_images_give_no_inspections(grey):
    assert list(Inspector.open(grey).inspect([])) == []


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 1), (3, 2)])
def test_an_image_that_cannot_be_inspected_is_reported_in_its_place(grey, tmp_path, batch_size, workers):
    (tmp_path / "empty.png").write_bytes(b"")
    nan = np.full((64, 64), np.nan, np.float32)
    images = [picture(), tmp_path / "none.png", picture(), nan, tmp_path / "empty.png", picture(channels=5), picture()]
    inspector = Inspector.open(grey, batch_size=batch_size, tile=64)
    results = list(inspector.inspect(images, on_error="report", workers=workers))
    assert [isinstance(r, FailedInspection) for r in results] == [False, True, False, True, True, True, False]
    assert results[1].source == str(tmp_path / "none.png")
    assert "empty" in results[4].message
    assert "5 channels" in results[5].message
    iterator = inspector.inspect(images, workers=workers)
    assert isinstance(next(iterator), Inspection)
    with pytest.raises(ImageError, match=r"none\.png"):
        next(iterator)


def test_an_error_in_the_iterable_is_raised(grey):
    def broken():
        yield picture()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Inspector.open(grey).inspect(broken()))


def test_several_threads_at_once(grey):
    inspector = Inspector.open(grey, tile=64)
    images = [picture(100 + i, 200, (i, 2 * i, i + 40, 2 * i + 30)) for i in range(12)]
    expected = [inspector.inspect(image).regions[0].box for image in images]
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda image: inspector.inspect(image).regions[0].box, images * 3))
        streams = list(pool.map(lambda _: [r.regions[0].box for r in inspector.inspect(images)], range(4)))
    assert alone == expected * 3
    assert streams == [expected] * 4


def test_a_path_as_text_or_path(grey, tmp_path):
    write_image(tmp_path / "a.png", picture(dtype=np.uint16))
    inspector = Inspector.open(str(grey))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png")):
        only_box(inspector.inspect(source), SQUARE, 2)
        assert inspector.inspect(source).source == str(tmp_path / "a.png")


def test_raw_outputs_lead_to_the_same_inspection(grey):
    for inspector in (Inspector.open(grey), Inspector.open(grey, tile=64)):
        batch = inspector.prepare(picture())
        assert (batch.dtype, batch.shape[1:]) == (np.float32, (1, 64, 64))
        direct, indirect = (
            inspector.inspect(picture()),
            inspector.inspect_outputs(picture(), inspector.engine.run(batch)),
        )
        assert [r.box for r in direct.regions] == [r.box for r in indirect.regions]
        assert direct.score == indirect.score


def test_a_classifier_with_tiles_gives_a_map(tmp_path):
    path = make_bundle(
        tmp_path / "c.blemish", grey_classes(), ["class_scores"], Decision(reject=0.5, map_high=0.5),
        classes=["good", "bright", "never"], side=32,
    )  # fmt: skip
    result = Inspector.open(path, tile=32, overlap=0.5).inspect(picture())
    assert (result.label, result.verdict) == ("bright", Verdict.REJECT)
    assert result.class_scores == pytest.approx({"good": 0.1, "bright": 0.9, "never": 0}, abs=0.01)
    x0, y0, x1, y1 = result.regions[0].box
    assert x0 <= SQUARE[0] and y0 <= SQUARE[1] and x1 >= SQUARE[2] and y1 >= SQUARE[3]  # noqa: PT018
    assert result.heat_map[:30, :60].max() < 0.2
    whole = Inspector.open(path).inspect(picture())
    assert (whole.heat_map, whole.label) == (None, "bright")
    assert Inspector.open(path).inspect(picture(box=None)).label == "good"
    undecided = Inspector.open(path, decision=Decision()).inspect(picture(box=None))
    assert (undecided.label, [*map(str, undecided.reasons)]) == ("good", ["no threshold set"])


@pytest.mark.parametrize("tile", [None, 64])
def test_masks_through_the_whole_path(tmp_path, tile):
    path = make_bundle(
        tmp_path / "m.blemish", two_masks(), ["mask_scores"], Decision(reject=0.5),
        classes=["good", "scratch", "stain"], channels=2, side=128,
    )  # fmt: skip
    image = np.concatenate([picture(), picture(box=(8, 8, 32, 40))], axis=2)
    result = Inspector.open(path, tile=tile).inspect(image)
    assert sorted((r.label, r.box) for r in result.regions) == [("scratch", SQUARE), ("stain", (8, 8, 32, 40))]


def test_boxes_through_the_whole_path_and_over_tiles(tmp_path):
    graph = fixed_boxes([[16, 16, 32, 48]], [0.9], [0])
    path = make_bundle(
        tmp_path / "b.blemish", graph, ["boxes", "box_scores", "box_labels"], Decision(reject=0.5), fit="letterbox"
    )
    # 128 × 256 in 64 × 64 is 32 × 64 with 16 rows of padding above: half of each axis, twice over
    result = Inspector.open(path).inspect(picture())
    assert [r.box for r in result.regions] == [(64, 0, 128, 128)]
    assert (result.label, result.verdict) == ("defect", Verdict.REJECT)
    tiled = Inspector.open(path, tile=64, overlap=0, batch_size=1).inspect(picture())
    expected = [(16 + x, 16 + y, 32 + x, 48 + y) for y in (0, 64) for x in range(0, 256, 64)]
    assert sorted(r.box for r in tiled.regions) == sorted(expected)


def test_scale_and_rules_in_mm(tmp_path, grey):
    rules = tmp_path / "rules.yaml"
    rules.write_text("reject: 2.0\nreview: 2.0\nrules: [reject if area_mm2 > 1]\n")
    with pytest.raises(DecisionError, match="px_per_mm"):
        Inspector.open(grey, decision=rules)
    inspector = Inspector.open(grey, decision=rules, px_per_mm=(20, 10))
    assert (inspector.manifest.scale.x, inspector.manifest.scale.y) == (20, 10)
    assert inspector.manifest.decision.map_high == 0.5  # from the bundle


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("threads", [None, 1])
def test_engines_agree(tmp_path, engine, threads):
    if engine == "openvino":
        pytest.importorskip("openvino")
    path = anomaly_bundle(tmp_path / "g.blemish", side=96, channels=3)
    inspector = Inspector.open(path, engine=engine, threads=threads)
    results = list(inspector.inspect([picture(channels=3)] * 3 + [picture(box=None)] * 8))
    assert [r.verdict for r in results] == [Verdict.REJECT] * 3 + [Verdict.PASS] * 8
    assert results[0].score == pytest.approx(230 / 255, abs=0.01)
    with ThreadPoolExecutor(3) as pool:
        assert len({r.score for r in pool.map(inspector.inspect, [picture(channels=3)] * 9)}) == 1


def test_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"blemish\[openvino\]"):
        open_engine(grey_anomaly(), "openvino")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine": "onnxrutime"}, OptionError, "did you mean onnxruntime"),
        ({"threads": 0}, OptionError, "threads"),
        ({"tile": 5}, OptionError, "too small"),
        ({"overlap": 0.95}, OptionError, "overlap"),
        ({"overlap": 0.5}, OptionError, "without tiles"),
        ({"overlap": 0.5, "tile": 0}, OptionError, "without tiles"),
        ({"px_per_mm": -1}, OptionError, "px_per_mm"),
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"decision": Decision(review=2, reject=1)}, DecisionError, "above"),
        ({"decision": Decision(rules=["reject if pit.area_px > 3"])}, DecisionError, "unknown class 'pit'"),
        ({"decision": "missing.yaml"}, DecisionError, "cannot be read"),
    ],
)
def test_invalid_options(grey, options, error, words):
    with pytest.raises(error, match=words) as caught:
        Inspector.open(grey, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5), np.uint8), np.zeros(5, np.uint8), np.zeros((4, 4), np.int64), np.zeros((2, 3, 0, 1))[0]]
)
def test_arrays_that_are_not_images(grey, image):
    with pytest.raises(ImageError) as caught:
        Inspector.open(grey).inspect(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("graph", [b"", b"not a graph", grey_anomaly()[:200]])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_graphs_that_do_not_load(tmp_path, graph, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    path = make_bundle(Path(tmp_path / "x.blemish"), graph, ["anomaly_map"])
    with pytest.raises(BundleError) as caught:
        Inspector.open(path, engine=engine)
    assert "\n" not in str(caught.value)


def test_a_graph_that_takes_other_images_than_the_manifest_says(tmp_path):
    path = make_bundle(tmp_path / "x.blemish", grey_anomaly(1), ["anomaly_map"], channels=3)
    with pytest.raises(BundleError, match="cannot run"):
        Inspector.open(path).inspect(picture())


def test_a_batch_in_one_thread_gives_what_the_stream_gives(grey, tmp_path):
    images = [picture(), tmp_path / "missing.png", picture(box=None), picture(60, 90, None)]
    stream = list(Inspector.open(grey, batch_size=2).inspect(images, on_error="report"))
    batch = Inspector.open(grey, batch_size=2).inspect_batch(images)
    assert [type(one) for one in batch] == [type(one) for one in stream]
    assert isinstance(batch[1], FailedInspection)
    assert batch[1].message == stream[1].message
    for one, other in zip(batch, stream, strict=True):
        if isinstance(one, Inspection):
            assert (one.verdict, one.score) == (other.verdict, other.score)
            assert [region.box for region in one.regions] == [region.box for region in other.regions]
            assert np.array_equal(one.heat_map, other.heat_map)
