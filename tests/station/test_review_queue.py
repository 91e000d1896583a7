"""Parts that wait for a review."""

import errno
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from station_helpers import make_client, picture, run_station, send

from blemish.station import image_store, repository, review_queue
from blemish.station.models import InspectionRow
from blemish.station.review_claims import CLAIM_S, ReviewClaims
from blemish.station.station import Station


def opinions(*labels: str) -> list[tuple[str, str]]:
    """Each label by another person."""
    return [(f"person {number}", label) for number, label in enumerate(labels)]


def test_disputes_are_settled_by_two_equal_reviews() -> None:
    assert review_queue.is_disputed("reject", opinions("good"))
    assert review_queue.is_disputed("pass", opinions("scratch"))
    assert not review_queue.is_disputed("reject", opinions("scratch"))
    assert not review_queue.is_disputed("review", opinions("good"))
    assert review_queue.is_disputed("reject", opinions("scratch", "good"))
    assert not review_queue.is_disputed("reject", opinions("good", "good"))


def test_a_second_opinion_is_a_second_person() -> None:
    assert review_queue.is_disputed("reject", [("anna", "good"), ("anna", "good")])
    assert not review_queue.is_disputed("reject", [("anna", "good"), ("anna", "good"), ("otto", "good")])
    assert review_queue.is_disputed("reject", [("anna", "scratch"), ("otto", "good"), ("otto", "good")])
    assert not review_queue.is_disputed("reject", [("anna", "good"), ("anna", "scratch")])  # corrected by herself


def test_parts_without_a_stored_image_wait_for_a_review_too(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    for keep in ("none", "all"):
        with run_station(tmp_path / keep, bundle_file, keep=keep) as station, monkeypatch.context() as patch:
            patch.setattr(image_store.os, "replace", full)  # it cannot be written
            client = make_client(station)
            parts = [send(client, picture(defect=True, seed=seed)).json() for seed in range(3)]
            assert [part["image_stored"] for part in parts] == [False] * 3
            client.post(f"/v1/inspections/{parts[1]['id']}/reviews", json={"label": "defect"})
            with station.database.reading() as session:
                assert review_queue.list_queue(session, "rejected") == [parts[0]["id"], parts[2]["id"]]
                assert review_queue.queue_lengths(session) == {"undecided": 0, "rejected": 2, "disputed": 0}


def test_nobody_is_asked_for_a_second_opinion_of_their_own(client: TestClient, station: Station) -> None:
    parts = [send(client, picture(defect=True, seed=seed)).json()["id"] for seed in range(3)]
    for part, people in zip(parts, (["anna"], ["otto"], ["anna", "otto"]), strict=True):
        for person in people:
            with station.database.writing() as session:
                repository.add_review(session, session.get_one(InspectionRow, part), person, "good")
    with station.database.reading() as session:
        assert review_queue.list_queue(session, "disputed") == parts[:2]
        assert review_queue.list_queue(session, "disputed", "anna") == [parts[1]]
        assert review_queue.queue_lengths(session, "otto")["disputed"] == 1


def test_a_claim_keeps_others_away_for_a_time() -> None:
    time = [0.0]
    claims = ReviewClaims(lambda: time[0])
    assert claims.take(1, "page a", "anna") is None
    assert claims.take(1, "page a", "anna") is None
    assert claims.take(1, "page b", "otto") == "anna"
    assert (claims.of_others("page a"), claims.of_others("page b")) == (set(), {1})
    assert claims.take(2, "page a", "anna") is None  # instead of the first one
    assert claims.take(1, "page b", "otto") is None
    claims.release("page b")
    assert claims.of_others("page b") == {2}
    time[0] = CLAIM_S + 1
    assert claims.take(2, "page b", "otto") is None
