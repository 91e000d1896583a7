"""The proof that an engine decides as the bundle was shipped: what the station shows, or why it gives no verdict.

Thresholds belong to the numbers of one engine. On any other than the one that a bundle shipped with, `blemish certify`
compares; where it found differences beyond its tolerance, nothing is decided unless somebody accepted them in writing.
"""

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BundleError
from blemish.inspection.bundle import Bundle
from blemish.inspection.engine_certificate import REFERENCE, find_certificate, read_certificates
from blemish.inspection.engines import Engine
from blemish.station.source_states import ComponentState
from blemish.translation import Message


@dataclass(frozen=True, slots=True)
class EngineProof:
    """What is known of an engine for a bundle, and what somebody accepted of it, if anything."""

    state: ComponentState
    problem: str | None = None
    accepted: str | None = None


def find_proof(bundle: Bundle, engine: Engine, path: Path) -> EngineProof:
    """The proof for a bundle at `path`, next to which its certificates lie; BundleError for one that does not hold."""
    name, compression = f"{engine.name} ({engine.device})", bundle.manifest.compression
    if compression is not None:
        if compression.engine != engine.name:
            raise BundleError(f"bundle {path.name} was compressed for {compression.engine}, not for {engine.name}")
        values = {"changed": compression.changed_verdicts, "images": compression.images}
        detail = Message("compressed: {changed} of {images} verdicts changed", values)
        return EngineProof(ComponentState("certificate", name, "ok", detail))
    if (engine.name, engine.device) == REFERENCE:
        return EngineProof(ComponentState("certificate", name, "ok", Message("the bundle's own")))
    certificate = find_certificate(read_certificates(path), engine.name, engine.device)
    if certificate is None:
        return EngineProof(ComponentState("certificate", name, "warning", Message("none: run blemish certify")))
    if not certificate.holds:
        raise BundleError(
            f"{name} gives other results than the bundle was shipped with: {certificate.problem}; choose another "
            "--engine, or have an engineer accept it with blemish certify --accept"
        )
    if certificate.problem is not None:
        detail = Message("accepted by {name}", {"name": certificate.accepted or ""})
        return EngineProof(
            ComponentState("certificate", name, "warning", detail), certificate.problem, certificate.accepted
        )
    if certificate.elsewhere:
        where = {"machine": certificate.machine}
        detail = Message("made on {machine}, or with other versions of libraries: run blemish certify", where)
        return EngineProof(ComponentState("certificate", name, "warning", detail))
    same = {"share": 100 * certificate.verdict_agreement, "date": certificate.created[:10]}
    detail = Message("{share:.1f} % of the verdicts the same, {date}", same)
    return EngineProof(ComponentState("certificate", name, "ok", detail))
