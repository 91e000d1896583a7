"""An engine that is proved to decide otherwise gives no verdict, unless an engineer accepted it in writing."""

from pathlib import Path

import pytest
from sqlalchemy import select

from blemish.errors import BundleError
from blemish.files import file_sha256
from blemish.inspection.agreement import installed_versions
from blemish.inspection.bundle import open_bundle
from blemish.inspection.engine_certificate import LIBRARIES, EngineCertificate, keep_certificate, this_machine
from blemish.station import recipes
from blemish.station.database import Database
from blemish.station.engine_proof import find_proof
from blemish.station.models import AuditRow, RecipeRow
from blemish.station.recipes import Inspectors, bundle_path
from blemish.station.settings import Settings

PROBLEM = "outputs differ by 0.5 of their scale, more than 0.001"


def certificate(bundle: Path, **changes: object) -> EngineCertificate:
    values = {
        "bundle_sha256": file_sha256(bundle), "engine": "openvino", "device": "cpu", "machine": this_machine(),
        "versions": installed_versions(LIBRARIES),
        "created": "2026-01-02T00:00:00+00:00", "images": 40, "noise": 0.0, "tolerance": 0.001,
        "score_difference": 0.0, "map_difference": 0.0, "verdict_agreement": 0.975, "latency_ms": 5.0,
        "reference_latency_ms": 8.0,
    }  # fmt: skip
    return EngineCertificate.model_validate(values | changes)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    pytest.importorskip("openvino")
    return Settings(data=tmp_path / "station", engine="openvino")


@pytest.fixture
def stored(settings: Settings, bundle_file: Path) -> Path:
    """The bundle where the station keeps it."""
    path = bundle_path(settings.bundles, file_sha256(bundle_file))
    path.parent.mkdir(parents=True)
    path.write_bytes(bundle_file.read_bytes())
    return path


def opened(settings: Settings, database: Database, recipe_id: int) -> Inspectors:
    inspectors = Inspectors(settings, database)
    with database.reading() as session:
        inspectors.get(session.get_one(RecipeRow, recipe_id))
    return inspectors


def test_the_engine_of_the_bundle_needs_no_other_proof(stored: Path) -> None:
    bundle = open_bundle(stored)
    proof = find_proof(bundle, recipes.open_bundle_engine(bundle), stored)
    assert (proof.state.state, proof.state.detail.text) == ("ok", "the bundle's own")


def test_another_engine_without_a_certificate_is_said(
    settings: Settings, database: Database, recipe_id: int, stored: Path
) -> None:
    (proof,) = opened(settings, database, recipe_id).proofs.values()
    assert proof.state.state == "warning"
    assert "certify" in proof.state.detail.text


def test_a_certificate_that_holds_is_shown(
    settings: Settings, database: Database, recipe_id: int, stored: Path
) -> None:
    keep_certificate(stored, certificate(stored))
    (proof,) = opened(settings, database, recipe_id).proofs.values()
    assert (proof.state.kind, proof.state.state, proof.accepted) == ("certificate", "ok", None)
    assert proof.state.detail.text.format(**proof.state.detail.values) == "97.5 % of the verdicts the same, 2026-01-02"


@pytest.mark.parametrize("changes", [{"machine": "laboratory, arm64"}, {"versions": {"openvino": "2021.1"}}])
def test_a_certificate_of_another_machine_or_other_versions_is_no_proof(
    settings: Settings, database: Database, recipe_id: int, stored: Path, changes: dict[str, object]
) -> None:
    keep_certificate(stored, certificate(stored, **changes))
    (proof,) = opened(settings, database, recipe_id).proofs.values()
    assert proof.state.state == "warning"
    assert "run blemish certify" in str(proof.state.detail)


def test_what_this_machine_found_counts_before_a_newer_certificate_of_another(
    settings: Settings, database: Database, recipe_id: int, stored: Path
) -> None:
    keep_certificate(stored, certificate(stored, problem=PROBLEM, versions={"openvino": "2021.1"}))
    keep_certificate(stored, certificate(stored, machine="laboratory, arm64", created="2030-01-01T00:00:00+00:00"))
    with pytest.raises(BundleError, match=r"other results.*differ by 0\.5"):
        opened(settings, database, recipe_id)


def test_beyond_the_tolerance_nothing_is_decided_until_it_is_accepted_and_that_is_recorded(
    settings: Settings, database: Database, recipe_id: int, stored: Path
) -> None:
    keep_certificate(stored, certificate(stored, problem=PROBLEM))
    with pytest.raises(BundleError, match=r"other results.*differ by 0\.5"):
        opened(settings, database, recipe_id)
    keep_certificate(stored, certificate(stored, problem=PROBLEM, accepted="A. Schmidt: trial on line 3"))
    (proof,) = opened(settings, database, recipe_id).proofs.values()
    assert proof.state.state == "warning"
    with database.reading() as session:
        (row,) = session.scalars(select(AuditRow).where(AuditRow.action == "engine"))
    assert row.comment == "A. Schmidt: trial on line 3"
    assert row.after == {"engine": "openvino", "device": "cpu", "problem": PROBLEM}
