"""One actor of a distributed inspection, in this process."""

import http.server
import json
import threading
from functools import partial

import numpy as np
import pytest
from graphs import anomaly_bundle

import blemish
from blemish.errors import OptionError
from blemish.files import file_sha256
from blemish.imaging.read import read_image, write_image
from blemish.inspection.convert import from_dict
from blemish.inspection.inspector import Inspector
from blemish.inspection.pipeline import FailedInspection

pytest.importorskip("pyarrow", reason="Ray's extra is not installed")
pytest.importorskip("fsspec", reason="Ray's extra is not installed")
from pyarrow import parquet

from blemish.inspection.distributed.actor import MAX_ATTEMPTS, MAX_DEATHS, SUSPECTS, ActorSettings, ShardInspector
from blemish.inspection.distributed.shards import (
    BUNDLE_FILE,
    ShardCounts,
    finished_shards,
    plan_shards,
    read_counts,
)
from blemish.inspection.distributed.storage import Storage


@pytest.fixture
def bundle(tmp_path):
    return anomaly_bundle(tmp_path / "grey.blemish", side=64)


@pytest.fixture
def images(tmp_path):
    """Eleven images of rising brightness, and one that is none."""
    folder = tmp_path / "images"
    for i in range(11):
        image = np.full((64, 128, 3), 25, np.uint8)
        image[16:48, 32:96] = 20 * i
        write_image(folder / f"{i:02}.png", image)
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def prepare(tmp_path, bundle, sources, size=100, **fields):
    storage = Storage(str(tmp_path / "out"))
    storage.put(bundle, BUNDLE_FILE)
    plan = plan_shards(storage, sources, size)
    settings = ActorSettings(storage.root, file_sha256(bundle), blemish.__version__, {"batch_size": 3}, **fields)
    return storage, plan, settings


def results(storage):
    rows = []
    for name in storage.names("results"):
        if name.endswith(".parquet"):
            with storage.open(f"results/{name}") as stream:
                rows += parquet.read_table(stream).to_pylist(maps_as_pydicts="strict")
    return {row["source"]: from_dict(row) for row in rows}


def without_pixels(inspection):
    inspection.heat_map = inspection.valid = None
    for region in inspection.regions:
        region.mask = None
    return inspection


@pytest.mark.parametrize("readers", [1, 3])
def test_the_rows_are_those_of_the_inspector(tmp_path, bundle, images, readers):
    sources = [*map(str, sorted(images.iterdir())), str(images / "none.png")]
    storage, plan, settings = prepare(tmp_path, bundle, sources, size=5, workers=readers)
    actor = ShardInspector(settings)
    counts = actor({"shard": np.array(plan.shards)})
    expected = {}
    for source, own in zip(sources, Inspector.open(bundle).inspect(sources, on_error="report"), strict=True):
        expected[source] = own.message if isinstance(own, FailedInspection) else without_pixels(own)
    found = results(storage)
    assert found.keys() == expected.keys()
    for source, own in expected.items():
        if isinstance(own, str):
            assert [reason.detail for reason in found[source].reasons] == [own]
        else:
            assert found[source] == own
    assert int(counts["failed"].sum()) == 2
    assert sum(int(counts[name].sum()) for name in ("passed", "review", "reject")) == 11


def test_a_finished_shard_is_not_inspected_again(tmp_path, bundle, images, monkeypatch):
    storage, plan, settings = prepare(tmp_path, bundle, [str(images / "10.png")])
    actor = ShardInspector(settings)
    first = actor.inspect_shard(plan.shards[0])
    monkeypatch.setattr(actor, "_inspector", None)
    assert actor.inspect_shard(plan.shards[0]) == first == ShardCounts(reject=1)
    assert storage.names("attempts") == []


def test_images_over_http_give_the_same_rows_as_files(tmp_path, bundle, images):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(images))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        names = [f"{root}/{i:02}.png" for i in range(11)] + [f"{root}/bad.png", f"{root}/none.png"]
        storage, plan, settings = prepare(tmp_path, bundle, names)
        counts = ShardInspector(settings).inspect_shard(plan.shards[0])
        server.shutdown()
    found = results(storage)
    assert set(found) == set(names)
    assert counts.failed == 2
    for i in range(11):
        own = without_pixels(Inspector.open(bundle).inspect(images / f"{i:02}.png"))
        own.source = names[i]
        assert found[names[i]] == own
    assert str(found[f"{root}/bad.png"].reasons[0].detail).startswith(f"cannot read image {root}/bad.png")


def test_another_version_of_blemish_is_refused(tmp_path, bundle, images):
    storage, _, settings = prepare(tmp_path, bundle, ["x"])
    other = ActorSettings(storage.root, settings.bundle_sha256, "0.0.0", {})
    with pytest.raises(OptionError, match=r"0\.0\.0"):
        ShardInspector(other)


class ProcessEnded(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_an_image_that_ends_its_process_becomes_a_failed_row(tmp_path, bundle, images, monkeypatch):
    sources = [str(images / f"{i:02}.png") for i in range(11)]
    storage, _, settings = prepare(tmp_path, bundle, sources)

    def read_or_end(path):
        if str(path) == sources[5]:
            raise ProcessEnded
        return read_image(path)

    monkeypatch.setattr("blemish.inspection.image_job.read_image", read_or_end)
    for _ in range(MAX_ATTEMPTS + MAX_DEATHS):
        with pytest.raises(ProcessEnded):
            ShardInspector(settings).inspect_shard(0)
        assert storage.names("results") == []
    counts = ShardInspector(settings).inspect_shard(0)
    found = results(storage)
    assert set(found) == set(sources)
    assert [source for source, own in found.items() if own.label == "unknown"] == [sources[5]]
    assert "ended 2 times" in str(found[sources[5]].reasons[0])
    assert (counts.failed, counts.images) == (1, 11)
    assert storage.names(SUSPECTS) == storage.names("attempts") == []


def test_a_rerun_inspects_what_changed_or_failed_and_keeps_the_rest(tmp_path, bundle, images):
    names = [str(images / f"{i:02}.png") for i in range(4)] + [str(images / "bad.png"), str(images / "late.png")]

    def rerun():
        storage, plan, settings = prepare(tmp_path, bundle, names)
        missing = [number for number in plan.shards if number not in finished_shards(storage)]
        for number in missing:
            ShardInspector(settings).inspect_shard(number)
        found = results(storage)
        lines = [json.loads(line)["source"] for line in storage.read("results/00000000.jsonl").splitlines()]
        assert sorted(lines) == sorted(found) == sorted(names)
        assert read_counts(storage, plan.shards).images == len(names)
        return missing, plan.kept, found

    def failures(found):
        return {name.rsplit("/")[-1] for name, own in found.items() if own.reasons and own.reasons[0].kind == "failed"}

    missing, kept, first = rerun()
    assert (missing, kept, failures(first)) == ([0], 0, {"bad.png", "late.png"})
    write_image(images / "01.png", np.full((64, 128, 3), 250, np.uint8))  # another part in the same file
    write_image(images / "late.png", np.full((64, 128, 3), 25, np.uint8))
    (images / "02.png").unlink()  # its result is not lost
    (images / "03.png").touch()
    missing, kept, second = rerun()
    assert (missing, kept, failures(second)) == ([0], 2, {"bad.png"})  # 00 and 02
    for name in (names[0], names[2]):
        assert second[name] == first[name]
    assert (first[names[1]].verdict, second[names[1]].verdict) == ("pass", "reject")
    assert second[names[3]].verdict == first[names[3]].verdict
    write_image(images / "bad.png", np.full((64, 128, 3), 25, np.uint8))
    assert failures(rerun()[2]) == set()
    assert rerun()[:2] == ([], 0)


def test_what_an_interrupted_rerun_left_is_inspected_with_what_changed_since(tmp_path, bundle, images):
    names = [str(images / f"{i:02}.png") for i in range(4)]
    storage, _, settings = prepare(tmp_path, bundle, names)
    ShardInspector(settings).inspect_shard(0)
    for index in (0, 2):  # planned each time, and not inspected
        write_image(images / f"{index:02}.png", np.full((64, 128, 3), 250, np.uint8))
        assert prepare(tmp_path, bundle, names)[1].kept == 3 - index // 2
        assert finished_shards(storage) == set()
    ShardInspector(settings).inspect_shard(0)
    assert [results(storage)[name].verdict for name in names] == ["reject", "pass", "reject", "pass"]


def test_a_plan_of_an_older_version_keeps_its_results(tmp_path, bundle, images):
    names = [str(images / f"{i:02}.png") for i in range(3)]
    storage, _, settings = prepare(tmp_path, bundle, names)
    storage.write("inputs/00000000.json", json.dumps(names).encode())
    ShardInspector(settings).inspect_shard(0)
    (images / "01.png").touch()
    plan = prepare(tmp_path, bundle, names)[1]
    assert (plan.images, plan.kept, finished_shards(storage)) == (3, 0, {0})
