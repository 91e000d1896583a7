"""Gauge studies of a station: the order of trials, results written once, and files that the analysis reads."""

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from fastapi.testclient import TestClient
from station_helpers import inspected, make_client, picture, send, store

from blemish.errors import DataError, ImageError
from blemish.qualify.analysis import analyse_study
from blemish.qualify.study import read_study
from blemish.station import gauge_studies
from blemish.station.gauge_studies import StudyPart, shuffle_trials
from blemish.station.models import GaugeStudyRow, GaugeTrialRow, InspectionRow
from blemish.station.production_counts import count_verdicts
from blemish.station.repository import add_review
from blemish.translation import translator

PARTS = [StudyPart(name, "pass" if name < "d" else "reject") for name in "abcdef"]


def test_parts_come_in_rounds_in_random_order_and_never_twice_in_a_row():
    names = [str(number) for number in range(5)]
    orders = [shuffle_trials(names, 3, random.Random(seed)) for seed in range(300)]
    for order in orders:
        for repeat in (1, 2, 3):
            assert sorted(part for part, own in order if own == repeat) == names
        assert [own for _, own in order] == [1] * 5 + [2] * 5 + [3] * 5
        assert all(first[0] != second[0] for first, second in pairwise(order))
    first = Counter(order[0][0] for order in orders)
    assert min(first.values()) > 30  # 60 expected of each
    assert shuffle_trials(["one"], 3, random.Random(0)) == [("one", 1), ("one", 2), ("one", 3)]


def make(database, kind="people", parts=PARTS, appraisers=("anna", "ben"), repeats=2, name="study"):
    with database.writing() as session:
        return gauge_studies.create_study(session, name, kind, parts, appraisers, repeats, "eve").id


def test_a_study_of_people_is_asked_answered_and_analysed(database, tmp_path):
    study_id = make(database)
    for appraiser in ("anna", "ben"):
        for left in range(12, 0, -1):
            with database.writing() as session:
                trial, found = gauge_studies.next_trial(session, study_id, appraiser)
                assert found == left
                wrong = appraiser == "ben" and trial.part == "f"  # who misses one defect in every repeat
                verdict = "pass" if trial.part < "d" or wrong else "reject"
                gauge_studies.answer_trial(session, trial.id, verdict, appraiser)
    with database.writing() as session:
        assert gauge_studies.next_trial(session, study_id, "anna") == (None, 0)
        study, trials = session.get(GaugeStudyRow, study_id), gauge_studies.read_trials(session, study_id)
        assert gauge_studies.list_studies(session)[0][1:] == (24, 24)
        with pytest.raises(DataError, match="has a result already"):
            gauge_studies.answer_trial(session, trials[0].id, "reject", "ben")
    found = analyse_study(gauge_studies.to_gauge_study(study, trials))["attribute"]
    anna, ben = found.appraisers
    assert (anna.effectiveness.value, anna.miss_rate.value) == (1, 0)
    assert (ben.effectiveness.value, ben.miss_rate.value) == (pytest.approx(5 / 6), pytest.approx(1 / 3))
    file = tmp_path / "study.csv"
    file.write_text(gauge_studies.study_csv(study, trials))
    assert analyse_study(read_study(file))["attribute"].system == found.system


def test_an_unfinished_study_is_not_analysed(database):
    study_id = make(database)
    with database.reading() as session:
        study, trials = session.get(GaugeStudyRow, study_id), gauge_studies.read_trials(session, study_id)
    assert gauge_studies.study_csv(study, trials) == "part,appraiser,repeat,verdict,reference\n"
    with pytest.raises(DataError, match="24 trials are left"):
        gauge_studies.to_gauge_study(study, trials)


def test_the_station_s_measurements_are_taken_and_are_no_production(database, recipe_id, bundle_file):
    since = gauge_studies.now()
    parts = [StudyPart("small", "10"), StudyPart("large", "20")]
    study_id = make(database, "area_px", parts, ("anna",), 2)
    expected = {}
    for number in range(4):
        with database.writing() as session:
            before = gauge_studies.newest_id(session, "s")
            trial, _ = gauge_studies.next_trial(session, study_id, "anna")
        store(database, recipe_id, inspected(bundle_file, 60))  # good: nothing was measured
        key = store(database, recipe_id, inspected(bundle_file, 200))
        with database.writing() as session:
            good = gauge_studies.first_after(session, "s", before)
            with pytest.raises(DataError, match="no defect was found"):
                gauge_studies.station_result("area_px", good)
            row = gauge_studies.first_after(session, "s", good.id)
            assert row.id == key
            result = gauge_studies.station_result("area_px", row)
            expected[trial.part, trial.repeat] = row.regions[0].area_px
            gauge_studies.answer_trial(session, trial.id, result, "anna", row.id)
            assert gauge_studies.first_after(session, "s", good.id) is None  # taken
            assert count_verdicts(session, "s", since).parts == number + 1  # the good ones
    with database.writing() as session:
        study, trials = session.get(GaugeStudyRow, study_id), gauge_studies.read_trials(session, study_id)
    found = gauge_studies.to_gauge_study(study, trials)
    assert found.results.shape == (2, 1, 2)
    assert found.results[0, 0].tolist() == [expected["small", 1], expected["small", 2]]
    np.testing.assert_array_equal(found.reference, [10, 20])


def test_one_inspection_is_the_result_of_one_trial(database, recipe_id, bundle_file):
    study_id = make(database, "verdict", PARTS, ("anna",), 1)
    key = store(database, recipe_id, inspected(bundle_file, 200))
    failed = store(database, recipe_id, ImageError("cut off"))
    with database.writing() as session:
        assert gauge_studies.station_result("verdict", session.get(InspectionRow, key)) == "reject"
        with pytest.raises(DataError, match="no valid result: cut off"):
            gauge_studies.station_result("verdict", session.get(InspectionRow, failed))
        trial, _ = gauge_studies.next_trial(session, study_id, "anna")
        gauge_studies.answer_trial(session, trial.id, "reject", "anna", key)
        trial, _ = gauge_studies.next_trial(session, study_id, "anna")
        with pytest.raises(DataError, match="another trial"):
            gauge_studies.answer_trial(session, trial.id, "reject", "anna", key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "peple"}, "unknown kind of study 'peple'; did you mean people"),
        ({"parts": [PARTS[0], PARTS[0]]}, "a name of its own"),
        ({"parts": [PARTS[0], StudyPart("z")]}, "give all or none"),
        ({"parts": [StudyPart("a", "good"), StudyPart("b", "pass")]}, "neither pass nor reject"),
        ({"kind": "length_mm"}, "is no number"),
        ({"parts": PARTS[:1]}, "two parts or more"),
        ({"appraisers": ()}, "at least one appraiser"),
        ({"repeats": 0}, "2 to 5000 trials"),
        ({"name": ""}, "has no name"),
    ],
)
def test_studies_that_say_nothing_are_refused(tmp_path, change, words):
    from blemish.station.database import open_database

    database = open_database(f"sqlite:///{tmp_path / 'record.db'}")
    with pytest.raises(DataError, match=words):
        make(database, **change)
    with database.reading() as session:
        assert session.query(GaugeTrialRow).count() == 0
    database.engine.dispose()


def test_reviewed_parts_are_chosen_half_good_half_defective(database, recipe_id, bundle_file):
    keys = [store(database, recipe_id, inspected(bundle_file, 200)) for _ in range(12)]
    with database.writing() as session:
        for number, key in enumerate(keys):
            row = session.get(InspectionRow, key)
            row.image_path = "x.png" if number != 11 else None
            add_review(session, row, "anna", "good" if number < 3 else "scratch")
    with database.reading() as session:
        for number, counts in (
            (4, {"pass": 2, "reject": 2}),
            (9, {"pass": 3, "reject": 6}),
            (99, {"pass": 3, "reject": 8}),
        ):
            found = gauge_studies.choose_recorded(session, number, random.Random(1))
            assert Counter(part.reference for part in found) == counts
            assert all(part.inspection_id != keys[11] for part in found)


def test_lists_results_and_analysis_by_the_api(client: TestClient, station):
    study_id = make(station.database, "verdict", PARTS[2:4], ("anna",), 2)
    assert client.get("/v1/studies").json()[0] | {"created_at": ""} == {
        "id": study_id, "name": "study", "kind": "verdict", "parts": 2, "appraisers": ["anna"], "repeats": 2,
        "trials": 4, "done": 0, "created_at": "", "created_by": "eve",
    }  # fmt: skip
    assert "trials are left" in client.get(f"/v1/studies/{study_id}/analysis").json()["detail"]
    for number in range(4):
        with station.database.reading() as session:
            trial, _ = gauge_studies.next_trial(session, study_id, "anna")
        key = send(client, picture(defect=trial.part == "d", seed=number)).json()["id"]
        with station.database.writing() as session:
            result = gauge_studies.station_result("verdict", session.get(InspectionRow, key))
            gauge_studies.answer_trial(session, trial.id, result, "anna", key)
    found = client.get(f"/v1/studies/{study_id}/analysis").json()
    assert (found["study"], found["attribute"]["system"]["value"]) == ("study", 1)
    assert "d,anna,2,reject,reject" in client.get(f"/v1/studies/{study_id}/results.csv").text
    assert client.get("/v1/studies/999/analysis").status_code == 404
    token = client.post("/v1/tokens", json={"name": "root", "role": "admin"}).json()["token"]
    head = {"Authorization": f"Bearer {token}"}
    operator = client.post("/v1/tokens", json={"name": "op", "role": "operator"}, headers=head).json()["token"]
    assert make_client(station, operator).get(f"/v1/studies/{study_id}/results.csv").status_code == 403
    actions = [row["action"] for row in client.get("/v1/audit", headers=head).json()]
    assert "gauge study" in actions


def test_kinds_are_translated():
    t = translator("zh")
    assert [text for text in gauge_studies.KINDS.values() if t(text) == text] == []
