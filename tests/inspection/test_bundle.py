"""A bundle comes back as it was written, and any damage is one clear line."""

import io
import json
import zipfile

import numpy as np
import pytest
from graphs import PROVENANCE, anomaly_bundle, grey_anomaly

from blemish.errors import BundleError
from blemish.inspection.bundle import (
    CHANGED,
    GRAPH,
    MANIFEST,
    find_bundle,
    open_bundle,
    replace_manifest,
    seal_members,
    set_decision,
    write_bundle,
)
from blemish.inspection.manifest import SCHEMA_VERSION, Calibration, Decision, InputSpec, Manifest


@pytest.fixture
def path(tmp_path):
    return anomaly_bundle(tmp_path / "grey.blemish")


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(path, *words):
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert all(word in line for word in words), line


def test_comes_back_as_it_was_written(tmp_path):
    manifest = Manifest(
        name="x", classes=["good", "pit"], outputs=["anomaly_map"], input=InputSpec(), provenance=PROVENANCE
    )
    path = write_bundle(tmp_path / "deep" / "x.blemish", b"graph", manifest, {"notes.txt": b"extra"})
    bundle = open_bundle(path)
    assert (bundle.graph, bundle.extras) == (b"graph", {"notes.txt": b"extra"})
    assert bundle.manifest == manifest.model_copy(update={"members": bundle.manifest.members})
    assert set(bundle.manifest.members) == {GRAPH, "notes.txt"}
    assert [p.name for p in path.parent.iterdir()] == ["x.blemish"]
    with pytest.raises(BundleError, match="is a folder"):
        write_bundle(tmp_path / "deep", b"graph", manifest)
    again = write_bundle(tmp_path / "again.blemish", b"graph", manifest, {"notes.txt": b"extra"})
    assert again.read_bytes() == path.read_bytes()


def test_a_run_folder_opens_its_bundle(path, tmp_path):
    assert find_bundle(tmp_path) == path
    assert open_bundle(str(tmp_path)).path == path
    anomaly_bundle(tmp_path / "second.blemish")
    refused(tmp_path, "2", "grey.blemish", "second.blemish")


def test_a_folder_without_a_bundle_and_no_file_at_all(tmp_path):
    refused(tmp_path, "no .blemish")
    refused(tmp_path / "nothing.blemish", "there is no bundle")


def test_a_flipped_bit_anywhere_is_detected(path):
    """Every byte of headers, manifest, directory and seal, and some of the graph."""
    good = path.read_bytes()
    places = np.unique(np.concatenate([np.arange(0, 120), np.linspace(0, len(good) - 1, 300, dtype=int),
                                       np.arange(len(good) - 420, len(good))]))  # fmt: skip
    for number, place in enumerate(places):
        broken = bytearray(good)
        broken[place] ^= 1 << (number % 8)
        path.write_bytes(broken)
        refused(path)


@pytest.mark.parametrize("keep", [0, 1, 30, 0.5, -1, -64, -200])
def test_a_truncated_file_is_detected(path, keep):
    good = path.read_bytes()
    path.write_bytes(good[: int(len(good) * keep) if isinstance(keep, float) else keep])
    refused(path)


@pytest.mark.parametrize("content", [b"not a zip at all", b"PK\x03\x04 only looks like one", b"\x89PNG\r\n\x1a\n" * 40])
def test_a_file_of_another_kind(path, content):
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/passwd", "a/b", "..", ".hidden", "c:\\x", "graph.onnx/..", ""])
def test_names_that_lead_elsewhere_are_refused_even_when_sealed(path, name):
    path.write_bytes(seal_members({**members_of(path), name: b"x"}))
    refused(path, "forbidden name")
    with pytest.raises(BundleError, match="cannot be the name of a member"):
        write_bundle(path, b"", open_bundle(anomaly_bundle(path)).manifest, {name: b"x"})


@pytest.mark.parametrize("missing", [GRAPH, MANIFEST])
def test_a_missing_member(path, missing):
    members = members_of(path)
    del members[missing]
    path.write_bytes(seal_members(members))
    refused(path, missing)


def test_members_that_the_manifest_does_not_know(path):
    path.write_bytes(seal_members({**members_of(path), "more.bin": b"x"}))
    refused(path, "more.bin", "unlisted")


def test_a_listed_member_that_is_gone(path):
    bundle = open_bundle(path)
    write_bundle(path, bundle.graph, bundle.manifest, {"more.bin": b"x"})
    members = members_of(path)
    del members["more.bin"]
    path.write_bytes(seal_members(members))
    refused(path, "more.bin", "lacks")


def test_another_graph_under_the_same_manifest(path):
    path.write_bytes(seal_members({**members_of(path), GRAPH: grey_anomaly(3)}))
    refused(path, GRAPH)


def changed_manifest(path, **changes):
    members = members_of(path)
    manifest = json.loads(members[MANIFEST]) | changes
    path.write_bytes(seal_members({**members, MANIFEST: json.dumps(manifest).encode()}))


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, None, "1", [1]])
def test_another_schema_version(path, version):
    changed_manifest(path, schema_version=version)
    refused(path, "schema version")


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"classes": "good"}, "classes"), ({"input": {"channels": 0}}, "input.channels"), ({"surprise": 1}, "surprise")],
)
def test_an_invalid_manifest(path, changes, word):
    changed_manifest(path, **changes)
    refused(path, word)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_a_manifest_that_is_not_json(path, text):
    path.write_bytes(seal_members({**members_of(path), MANIFEST: text}))
    refused(path)


def seal(archive: io.BytesIO) -> bytes:
    """Seal any zip, as an attacker could."""
    import hashlib

    with zipfile.ZipFile(archive, "a") as opened:
        opened.comment = b"blemish-sha256:" + b"0" * 64
    content = archive.getvalue()
    return content[:-64] + hashlib.sha256(content[:-64]).hexdigest().encode()


def test_compressed_and_doubled_members_are_refused_before_they_are_read(path):
    members = members_of(path)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, members[MANIFEST])
        archive.writestr(GRAPH, b"\0" * 10_000_000)
    path.write_bytes(seal(bomb))
    refused(path, "compressed")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr(MANIFEST, members[MANIFEST])
        archive.writestr(GRAPH, members[GRAPH])
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(GRAPH, members[GRAPH])
    path.write_bytes(seal(twice))
    refused(path, "twice")


def test_a_changed_decision_keeps_all_else(path):
    before = open_bundle(path)
    calibration = Calibration(source="held-out", target="false-alarm rate 0.01", good_images=9)
    write_bundle(path, before.graph, before.manifest.model_copy(update={"calibration": calibration}))
    replace_manifest(
        path, set_decision(open_bundle(path).manifest, Decision(reject=3.0, rules=["review if count > 3"]))
    )
    replace_manifest(
        path, set_decision(open_bundle(path).manifest, Decision(reject=2.0, rules=["review if count > 3"]))
    )
    after = open_bundle(path)
    assert after.graph == before.graph
    assert after.manifest.decision == Decision(reject=2.0, rules=["review if count > 3"])
    assert after.manifest.calibration.warnings == [CHANGED]
    assert after.manifest.provenance == before.manifest.provenance


def test_a_failed_write_leaves_the_old_bundle(path, monkeypatch):
    good = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_manifest(path, set_decision(open_bundle(path).manifest, Decision(reject=3.0)))
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == [path.name]
