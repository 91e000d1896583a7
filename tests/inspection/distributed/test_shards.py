"""The plan of a distributed inspection, and its results, in a folder and in an object store."""

import json
import threading

import numpy as np
import pytest

from blemish.errors import OptionError
from blemish.inspection.convert import InspectionRecord, from_dict
from blemish.inspection.result import Inspection, Measurements, Reason, ReasonKind, Region, Verdict

pytest.importorskip("pyarrow", reason="Ray's extra is not installed")
pytest.importorskip("fsspec", reason="Ray's extra is not installed")
from pyarrow import parquet

from blemish.inspection.distributed import shards
from blemish.inspection.distributed.shards import (
    ShardCounts,
    check_run,
    finished_shards,
    plan_shards,
    read_counts,
    read_inputs,
    write_shard,
)
from blemish.inspection.distributed.storage import Storage


@pytest.fixture(params=["folder", "object store"])
def storage(request, tmp_path):
    return Storage(str(tmp_path / "out") if request.param == "folder" else f"memory://{tmp_path.name}/out")


def inspection(source: str, verdict: Verdict = Verdict.REJECT) -> Inspection:
    measured = Measurements(*np.arange(14.0).tolist(), area_mm2=0.25)
    return Inspection(
        verdict,
        "scratch",
        0.75,
        [Region("scratch", 0.75, (1, 2, 5, 6), None, measured, True), Region("pit", 0.5, (0, 0, 1, 1))],
        (64, 128),
        class_scores={"good": 0.25, "scratch": 0.75},
        reasons=[Reason(ReasonKind.THRESHOLD, Verdict.REJECT, value=0.75, threshold=0.5)],
        timings_ms={"read": 1.5},
        source=source,
    )


def failed(source: str) -> Inspection:
    reason = Reason(ReasonKind.FAILED, Verdict.REVIEW, detail="damaged")
    return Inspection(Verdict.REVIEW, "unknown", float("nan"), [], (0, 0), reasons=[reason], source=source)


def inputs(storage: Storage, numbers: list[int]) -> list[list[str]]:
    return [read_inputs(storage, number) for number in numbers]


def test_each_image_is_planned_once_and_stays_in_its_shard(storage):
    plan = plan_shards(storage, ["a", "b", "a", "c", "d", "e", "e"], 2)
    assert inputs(storage, plan.shards) == [["a", "b"], ["c", "d"], ["e"]]
    assert plan.images == 5
    again = plan_shards(storage, ["f", "e", "g", "h", "a"], 2)
    assert inputs(storage, again.shards) == [["a", "b"], ["c", "d"], ["e"], ["f", "g"], ["h"]]
    assert again.images == 8
    assert plan_shards(storage, [], 2) == again


def test_two_runs_that_plan_at_a_time_never_share_a_shard(tmp_path):
    storage = Storage(str(tmp_path))
    begun, other = threading.Event(), threading.Event()

    def slow():
        yield "a"
        begun.set()
        other.wait(20)
        yield "b"

    outcome = []

    def first():
        try:
            plan_shards(storage, slow(), 1)
        except OptionError as error:
            outcome.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(20)
    plan_shards(Storage(str(tmp_path)), ["x", "y"], 1)
    other.set()
    thread.join(20)
    assert len(outcome) == 1
    planned = [name for number in (0, 1, 2) for name in read_inputs(storage, number)]
    assert planned == ["a", "x", "y"]


def test_a_drive_without_links_refuses_a_second_plan_too(tmp_path, monkeypatch):
    def refuse(*names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("blemish.inspection.distributed.storage.os.link", refuse)
    storage = Storage(str(tmp_path))
    storage.write("inputs/a.json", b"1", new=True)
    with pytest.raises(FileExistsError):
        storage.write("inputs/a.json", b"2", new=True)
    assert storage.read("inputs/a.json") == b"1"
    assert storage.names("inputs") == ["a.json"]


def test_settings_that_change_the_results_are_refused(storage):
    check_run(storage, {"bundle": "1", "engine": "onnxruntime"})
    check_run(storage, {"bundle": "1", "engine": "onnxruntime"})
    with pytest.raises(OptionError, match=r"engine .*onnxruntime.*openvino"):
        check_run(storage, {"bundle": "1", "engine": "openvino"})


def test_parquet_and_json_lines_hold_the_same_rows_of_the_published_schema(storage):
    own = [inspection("/x/1.png"), inspection("/x/ü.png", Verdict.PASS), failed("/x/3.png")]
    counts = write_shard(storage, 7, "abc", own)
    assert counts == ShardCounts(passed=1, reject=1, failed=1)
    assert finished_shards(storage) == {7}
    assert read_counts(storage, [7]) == counts
    lines = [json.loads(line) for line in storage.read("results/00000007.jsonl").decode().splitlines()]
    with storage.open("results/00000007.parquet") as stream:
        rows = parquet.read_table(stream).to_pylist(maps_as_pydicts="strict")
    assert [row.pop("bundle") for row in rows] == [line.pop("bundle") for line in lines] == ["abc"] * 3
    assert set(rows[0]) == set(InspectionRecord.model_fields)
    assert [from_dict(row) for row in rows] == [from_dict(line) for line in lines] == own
    assert [row["timings_ms"] for row in rows] == [line["timings_ms"] for line in lines]


def test_more_results_than_a_row_group_are_written_in_order(storage, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS", 4)
    write_shard(storage, 0, "abc", (inspection(f"{i}.png") for i in range(10)))
    with storage.open("results/00000000.parquet") as stream:
        table = parquet.ParquetFile(stream)
        assert table.num_row_groups == 3
        assert table.read(["source"]).column(0).to_pylist() == [f"{i}.png" for i in range(10)]


def test_names_that_are_no_utf8_are_escaped_in_parquet(storage):
    name = b"/x/\xf6.png".decode("utf-8", "surrogateescape")
    write_shard(storage, 0, "abc", [inspection(name)])
    assert json.loads(storage.read("results/00000000.jsonl"))["source"] == name
    with storage.open("results/00000000.parquet") as stream:
        assert parquet.read_table(stream).column("source").to_pylist() == ["/x/\\udcf6.png"]


def test_a_shard_that_ends_with_an_error_leaves_nothing(storage):
    def broken():
        yield inspection("1.png")
        raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError):
        write_shard(storage, 0, "abc", broken())
    assert finished_shards(storage) == set()
    assert storage.names("results") == []


def test_names_with_any_bytes_come_back_from_the_plan(storage):
    names = [b"/x/\xf6.png".decode("utf-8", "surrogateescape"), "/x/line\nbreak.png", "/x/ü.png"]
    assert inputs(storage, plan_shards(storage, names, 10).shards) == [names]
