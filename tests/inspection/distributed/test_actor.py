"""One actor of a distributed inspection, in this process."""

import http.server
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
from blemish.inspection.distributed.shards import BUNDLE_FILE, ShardCounts, plan_shards
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
