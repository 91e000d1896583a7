"""The one file that ships: a zip, stored, of `graph.onnx`, `manifest.json` and any other listed members.

The zip's comment is a seal: the SHA-256 of every byte before it. It detects damage and careless editing anywhere in the
file, headers and manifest included. It is no signature: whoever rewrites the file on purpose can seal it again, so a
bundle is as trustworthy as its origin. The manifest's own list of SHA-256 ties the members to it.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from blemish.errors import BundleError
from blemish.files import validate, write_atomic
from blemish.inspection.manifest import SCHEMA_VERSION, Calibration, Decision, Manifest, ProductDecision

SUFFIX = ".blemish"
GRAPH, MANIFEST = "graph.onnx", "manifest.json"
CHANGED = "the thresholds were changed by hand after calibration, which does not cover them"
MAX_BYTES = 4 * 2**30
MAX_MANIFEST_BYTES = 16 * 2**20
_SEAL = b"blemish-sha256:"
_SEAL_BYTES = len(_SEAL) + 64
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was opened and checked."""

    path: Path
    graph: bytes
    manifest: Manifest
    extras: dict[str, bytes] = field(default_factory=dict)  # other members, by name


def find_bundle(path: str | Path) -> Path:
    """The bundle's file: `path` itself, or the only .blemish file in the folder `path`."""
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise BundleError(
                f"folder {path} holds no {SUFFIX} file; name a bundle, or the folder of a finished training"
            )
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise BundleError(f"folder {path} holds {len(files)} {SUFFIX} files; name one of {names}")
        return files[0]
    if not path.exists():
        raise BundleError(f"there is no bundle at {path}")
    return path


def write_bundle(path: str | Path, graph: bytes, manifest: Manifest, extras: dict[str, bytes] | None = None) -> Path:
    """Write a bundle atomically, with the manifest's list of members filled in; BundleError for a bad name."""
    path = Path(path)
    if path.is_dir():
        raise BundleError(f"'{path}' is a folder; name a file for the bundle, such as {path / 'name.blemish'}")
    members = {GRAPH: graph, **(extras or {})}
    for name in members:
        if not _MEMBER_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(f"'{name}' cannot be the name of a member; use letters, digits, '_', '.' and '-'")
    manifest = manifest.model_copy(update={"members": {name: _sha256(content) for name, content in members.items()}})
    text = manifest.model_dump_json(indent=1).encode()
    write_atomic(path, seal_members({MANIFEST: text, **members}))
    return path


def seal_members(members: dict[str, bytes]) -> bytes:
    """The bytes of a stored zip of the members, with its seal; nothing is checked."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without a date: same members, same file
        archive.comment = _SEAL + b"0" * 64
    unsealed = memoryview(stream.getvalue())[:-64]
    return bytes(unsealed) + _sha256(unsealed).encode()


def describe_bundle(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What a result says of the bundle that it is of: its graph and decisions tell whether it still holds."""
    return {
        "name": manifest.name,
        "method": manifest.provenance.method,
        "path": str(path),
        "graph_sha256": manifest.members.get(GRAPH),
        "decision": manifest.decision.model_dump(mode="json", exclude_defaults=True),
        "products": {
            name: own.decision.model_dump(mode="json", exclude_defaults=True) for name, own in manifest.products.items()
        },
    }


def replace_manifest(path: str | Path, manifest: Manifest) -> Path:
    """Rewrite a bundle atomically with another manifest."""
    bundle = open_bundle(path)
    return write_bundle(bundle.path, bundle.graph, manifest, bundle.extras)


def set_decisions(manifest: Manifest, change: Callable[[Decision], Decision], product: str | None = None) -> Manifest:
    """The manifest with `change` applied to the decisions of all products, or of one product only."""
    products = dict(manifest.products)
    for name, own in manifest.products.items():
        if product in (None, name):
            single = manifest.model_copy(update={"decision": own.decision, "calibration": own.calibration})
            single = set_decision(single, change(own.decision))
            products[name] = ProductDecision(decision=single.decision, calibration=single.calibration)
    if product is None:
        manifest = set_decision(manifest, change(manifest.decision))
    return manifest.model_copy(update={"products": products})


def warn_calibrations(manifest: Manifest, text: str) -> Manifest:
    """The manifest with a warning at its calibration and those of its products, where there are any."""

    def warned(calibration: Calibration | None) -> Calibration | None:
        return None if calibration is None else calibration.with_warning(text)

    products = {
        name: own.model_copy(update={"calibration": warned(own.calibration)}) for name, own in manifest.products.items()
    }
    return manifest.model_copy(update={"calibration": warned(manifest.calibration), "products": products})


def set_decision(manifest: Manifest, decision: Decision) -> Manifest:
    """The manifest with another decision, and a warning where thresholds are no longer the calibrated ones."""
    before, calibration = manifest.decision, manifest.calibration
    if calibration is not None and (decision.review, decision.reject) != (before.review, before.reject):
        calibration = calibration.with_warning(CHANGED)
    return manifest.model_copy(update={"decision": decision, "calibration": calibration})


def open_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle, or the only one in a run folder; raises BundleError for a damaged or altered one."""
    path = find_bundle(path)
    try:
        with path.open("rb") as stream:
            _check_seal(stream, path)
            with zipfile.ZipFile(stream) as archive:
                _check_entries(archive, path)
                contents = {name: archive.read(name) for name in archive.namelist()}
    except OSError as error:
        raise BundleError(f"bundle {path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise BundleError(f"bundle {path} is damaged: {str(error).splitlines()[0]}; fetch it again") from error
    manifest = _manifest(contents.pop(MANIFEST), path)
    _check_members(contents, manifest, path)
    return Bundle(path, contents.pop(GRAPH), manifest, contents)


def _check_seal(stream: BinaryIO, path: Path) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size > MAX_BYTES:
        raise BundleError(f"bundle {path} has {size / 2**30:.1f} GiB, more than the limit of {MAX_BYTES / 2**30:.0f}")
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise BundleError(f"{path} is not a blemish bundle, or its beginning is damaged")
    stream.seek(max(0, size - _SEAL_BYTES))
    tail = stream.read()
    if not tail.startswith(_SEAL):
        raise BundleError(f"bundle {path} has no seal at its end: it was cut short or altered; fetch it again")
    stream.seek(0)
    digest, left = hashlib.sha256(), size - 64
    while left > 0:
        block = stream.read(min(left, 2**20))
        if not block:
            break
        digest.update(block)
        left -= len(block)
    if digest.hexdigest().encode() != tail[-64:]:
        raise BundleError(f"bundle {path} is damaged or was altered: its checksum does not match; fetch it again")


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    """Before anything is read: names must be plain and occur once, and no member may be compressed."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        if not _MEMBER_NAME.fullmatch(entry.filename):
            raise BundleError(f"bundle {path} holds a member with the forbidden name {entry.filename!r}")
        if names.count(entry.filename) > 1:
            raise BundleError(f"bundle {path} holds the member {entry.filename} twice")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleError(f"bundle {path}: member {entry.filename} is compressed; bundles are stored only")
        if entry.file_size > (MAX_MANIFEST_BYTES if entry.filename == MANIFEST else MAX_BYTES):
            raise BundleError(f"bundle {path}: member {entry.filename} is larger than allowed")
    for name in (MANIFEST, GRAPH):
        if name not in names:
            raise BundleError(f"bundle {path} has no {name}; it is incomplete")


def _manifest(text: bytes, path: Path) -> Manifest:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {path}: the manifest is not JSON ({error})") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {path} has schema version {version!r}, this program knows {SCHEMA_VERSION}; "
            "update blemish, or train again"
        )
    return validate(Manifest, data, f"bundle {path}: the manifest", BundleError)


def _check_members(contents: dict[str, bytes], manifest: Manifest, path: Path) -> None:
    for name in sorted(contents.keys() ^ manifest.members.keys()):
        raise BundleError(
            f"bundle {path} lacks its member {name}"
            if name in manifest.members
            else f"bundle {path} holds {name}, unlisted"
        )
    for name, content in contents.items():
        if _sha256(content) != manifest.members[name]:
            raise BundleError(f"bundle {path}: member {name} is not the one that its manifest was written for")


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
