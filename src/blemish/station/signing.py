"""Signatures of bundles (Ed25519): a station that is given a public key imports only bundles that were signed with its
private key, wherever they come from."""

import base64
import binascii
from pathlib import Path
from typing import Any

from blemish.errors import BundleError, OptionError
from blemish.files import file_sha256, write_atomic

SUFFIX = ".sig"  # of the file next to a bundle that has its signature in base64
_CONTEXT = b"blemish bundle sha256 "


def make_keys(private: Path, public: Path) -> None:
    """Write a new pair of keys as PEM; OptionError where one of the files exists."""
    keys, serialization, _ = _library()
    for path in (private, public):
        if path.exists():
            raise OptionError(f"{path} exists already; a key is never overwritten")
    key = keys.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public_format = serialization.PublicFormat.SubjectPublicKeyInfo
    write_atomic(public, key.public_key().public_bytes(pem, public_format))


def sign_bundle(bundle: Path, private: Path) -> Path:
    """Write the signature of a bundle next to it; returns its path."""
    keys, serialization, _ = _library()
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"{private} is no private key: {error}") from error
    if not isinstance(key, keys.Ed25519PrivateKey):
        raise OptionError(f"{private} is no Ed25519 key; make one with --new-key")
    target = bundle.with_name(bundle.name + SUFFIX)
    write_atomic(target, base64.b64encode(key.sign(_CONTEXT + file_sha256(bundle).encode())) + b"\n")
    return target


def check_signature(public: Path, sha256: str, signature: str | None) -> None:
    """BundleError where a bundle, by its hash, has no signature that the public key verifies."""
    keys, serialization, invalid = _library()
    if not signature:
        raise BundleError("this station imports signed bundles only, and this one has no signature")
    try:
        key = serialization.load_pem_public_key(public.read_bytes())
    except (OSError, ValueError) as error:
        raise OptionError(f"{public} is no public key: {error}") from error
    if not isinstance(key, keys.Ed25519PublicKey):
        raise OptionError(f"{public} is no Ed25519 key")
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), _CONTEXT + sha256.encode())
    except (invalid, binascii.Error, ValueError) as error:
        raise BundleError("the signature of the bundle is not valid for it and this station's key") from error


def read_signature(bundle: Path) -> str | None:
    path = bundle.with_name(bundle.name + SUFFIX)
    return path.read_text(encoding="ascii", errors="replace") if path.is_file() else None


def _library() -> tuple[Any, Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise OptionError("signatures need cryptography: pip install 'blemish[signing]'") from error
    return ed25519, serialization, InvalidSignature
