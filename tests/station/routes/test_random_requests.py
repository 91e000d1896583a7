"""Random requests to every operation of the OpenAPI document."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from starlette.types import Receive, Scope, Send
from station_helpers import make_client, picture, run_station

from blemish.station import gauge_studies
from blemish.station.api import create_app
from blemish.station.gauge_studies import StudyPart
from blemish.station.models import now
from blemish.station.station import Station


@pytest.fixture(autouse=True)
def pdf_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PDF takes seconds, and random requests ask for many."""
    monkeypatch.setattr("blemish.station.routes.lists.html_to_pdf_elsewhere", lambda page: b"%PDF")


@pytest.fixture
def full_station(tmp_path: Path, bundle_file: Path) -> Iterator[Station]:
    """With a part of everything, so that random requests find something."""
    with run_station(tmp_path / "s", bundle_file, max_image_bytes=2**20, max_bundle_bytes=2**20) as station:
        client = make_client(station)
        part = client.post("/v1/inspections", files={"image": picture(defect=True)}).json()["id"]
        client.put(f"/v1/golden/{part}", json={"label": "defect"})
        client.post(f"/v1/inspections/{part}/reviews", json={"label": "defect"})
        client.post("/v1/recipes/1/qualification", json={"until": (now() + timedelta(days=30)).isoformat()})
        make_finished_study(station, "people", "pass", ("pass", "reject"))
        make_finished_study(station, "length_px", "1.5", ("1.5", "1.5"))  # without any variation
        folder = tmp_path / "plates"
        folder.mkdir()
        (folder / "0.png").write_bytes(picture())
        station.labelling.create(folder, "eve")
        yield station


def make_finished_study(station: Station, kind: str, reference: str, results: tuple[str, str]) -> None:
    """The first of two people always gives the first result, the second the other."""
    with station.database.writing() as session:
        parts = [StudyPart(name, reference) for name in "abcde"]
        study = gauge_studies.create_study(session, f"study of {kind}", kind, parts, ("anna", "ben"), 2, "eve")
        for trial in gauge_studies.read_trials(session, study.id):
            result = results[trial.appraiser == "ben"]
            gauge_studies.answer_trial(session, trial.id, result, trial.appraiser)


def fuzz(station: Station, examples: int) -> None:
    """Valid and invalid requests to every operation of the OpenAPI document."""
    local = {"Host": "127.0.0.1"}
    app = create_app(station)

    async def asked_locally(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", asked_locally, headers=local)
    seen = set()
    for operation in (found.ok() for found in schema.get_all_operations()):
        if (operation.method.upper(), operation.path) in (("POST", "/v1/tokens"), ("POST", "/v1/users")):
            continue  # from the first one on, every request would be refused

        @given(case=operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE))
        @settings(max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        def check(case: schemathesis.Case) -> None:
            answer = case.call(headers=local)
            seen.add((case.method, case.path, answer.status_code < 300))
            assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text[:500]}"

        check()
    succeeded = {path for _, path, fine in seen if fine}
    assert {
        "/v1/recipes",
        "/v1/inspections",
        "/v1/decision",
        "/v1/audit",
        "/v1/studies",
        "/v1/alarms",
        "/metrics",
    } <= succeeded
    assert make_client(station).get("/readyz").status_code == 200


def test_random_requests_find_no_server_error(full_station: Station) -> None:
    fuzz(full_station, 8)


@pytest.mark.slow
def test_many_random_requests_find_no_server_error(full_station: Station) -> None:
    fuzz(full_station, 300)


@pytest.mark.slow
def test_many_random_requests_find_no_server_error_on_either_database(
    tmp_path: Path, bundle_file: Path, database_url: str
) -> None:
    with run_station(tmp_path / "s", bundle_file, db=database_url) as station:
        fuzz(station, 100)
