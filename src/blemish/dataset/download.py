"""Download of published datasets whose licences allow it: resumed where it broke off, checked, and unpacked safely.

Where a checksum is known, the file has to agree with it. Otherwise the first download pins one in a small file beside
the data, with which each later download has to agree.
"""

import http.client
import json
import shutil
import ssl
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from blemish.errors import DataError, OptionError, unknown
from blemish.files import file_sha256, write_atomic

LOCK_NAME = "download-lock.json"
_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_MAX_ATTEMPTS = 5  # in a row that bring nothing
_NC = "CC BY-NC-SA 4.0 (no commercial use)"

DownloadProgress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all if known


@dataclass(frozen=True)
class RemoteFile:
    """One archive of a dataset. `sha256` is "" where nobody publishes one."""

    url: str
    name: str
    sha256: str = ""


@dataclass(frozen=True)
class RemoteDataset:
    """A published dataset: its licence, the page that states it, and its archives."""

    title: str
    licence: str
    page: str
    files: tuple[RemoteFile, ...]


# The addresses are those of the publishers; the checksums are those that anomalib publishes for the same files.
DATASETS: dict[str, RemoteDataset] = {
    "mvtec-ad": RemoteDataset(
        "MVTec AD", _NC, "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        (RemoteFile(
            "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/"
            "mvtec_anomaly_detection.tar.xz",
            "mvtec_anomaly_detection.tar.xz",
            "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        ),),
    ),
    "mvtec-loco": RemoteDataset(
        "MVTec LOCO AD", _NC, "https://www.mvtec.com/company/research/datasets/mvtec-loco",
        (RemoteFile(
            "https://www.mydrive.ch/shares/48237/1b9106ccdfbb09a0c414bd49fe44a14a/download/430647091-1646842701/"
            "mvtec_loco_anomaly_detection.tar.xz",
            "mvtec_loco_anomaly_detection.tar.xz",
            "9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
        ),),
    ),
    "mvtec-ad-2": RemoteDataset(
        "MVTec AD 2", _NC, "https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        (RemoteFile(
            "https://www.mydrive.ch/shares/121573/7f68fe2c4f7c2ceaa08f463aaeb2f414/download/466712769-1743422799/"
            "mvtec_ad_2.tar.gz",
            "mvtec_ad_2.tar.gz",
            "c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
        ),),
    ),
    "visa": RemoteDataset(
        "VisA", "CC BY 4.0", "https://github.com/amazon-science/spot-diff",
        (RemoteFile(
            "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
            "VisA_20220922.tar",
            "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        ),),
    ),
    "btad": RemoteDataset(
        "BTAD", "none stated by its publishers (anomalib says CC BY-NC-SA 4.0: no commercial use)",
        "https://avires.dimi.uniud.it/papers/btad/",
        (RemoteFile(
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "btad.zip",
            "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        ),),
    ),
    "kolektor-sdd2": RemoteDataset(
        "KolektorSDD2", _NC, "https://www.vicos.si/resources/kolektorsdd2/",
        (RemoteFile("https://data.vicos.si/datasets/KSDD/KolektorSDD2.zip", "KolektorSDD2.zip"),),
    ),
    "dagm": RemoteDataset(
        "DAGM 2007", "CC BY 4.0", "https://zenodo.org/record/8086136",
        tuple(
            RemoteFile(f"https://zenodo.org/record/8086136/files/Class{i}.zip?download=1", f"Class{i}.zip")
            for i in range(1, 11)
        ),
    ),
}  # fmt: skip


def download_dataset(
    name: str,
    out: Path,
    accept_licence: bool = False,
    progress: DownloadProgress = lambda file, done, total: None,
    datasets: dict[str, RemoteDataset] | None = None,
    wait: float = 2.0,
) -> RemoteDataset:
    """Download and unpack a dataset into a new folder, or go on where an earlier call broke off.

    Raises OptionError for an unknown name or a licence that is not accepted, DataError for whatever goes wrong on the
    way, which a later call may put right. `wait` is the pause in seconds before a transfer is tried again.
    """
    datasets = DATASETS if datasets is None else datasets
    if name not in datasets:
        raise OptionError(unknown("dataset", name, datasets))
    dataset = datasets[name]
    if not accept_licence:
        raise OptionError(
            f"licence of {dataset.title}: {dataset.licence}, see {dataset.page}; give --accept-licence if you accept it"
        )
    lock = out / LOCK_NAME
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not lock.is_file())):
        raise DataError(f"{out} already exists and is not an empty folder; give another place to download to")
    with _disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        pinned = _read_lock(lock, name)
        _write_lock(lock, name, dataset, pinned)
        for file in dataset.files:
            archive = out / file.name
            if pinned.get(file.name, {}).get("unpacked"):
                continue
            if not archive.is_file():
                fetch(file.url, archive, progress, wait)
            digest = file_sha256(archive)
            expected = file.sha256 or pinned.get(file.name, {}).get("sha256", digest)
            if digest != expected:
                archive.unlink()
                raise DataError(
                    f"{file.name} from {file.url} is damaged or another file: its SHA-256 is {digest}, not {expected}; "
                    "it has been deleted"
                )
            pinned[file.name] = {"url": file.url, "sha256": digest, "bytes": archive.stat().st_size}
            _write_lock(lock, name, dataset, pinned)
            unpack(archive, out, out / Path(file.name).name.partition(".")[0] if len(dataset.files) > 1 else out)
            archive.unlink()
            pinned[file.name]["unpacked"] = True
            _write_lock(lock, name, dataset, pinned)
    return dataset


def fetch(
    url: str, target: Path, progress: DownloadProgress = lambda file, done, total: None, wait: float = 2.0
) -> None:
    """Download a file, going on with what an earlier call has left; DataError where it cannot be had as a whole."""
    partial, note = target.with_name(f"{target.name}.partial"), target.with_name(f"{target.name}.partial.json")
    attempts = 0
    while True:
        had = partial.stat().st_size if partial.is_file() else 0
        reason = "the server sends no more"
        try:
            if _transfer(url, target.name, partial, note, progress):
                partial.replace(target)
                note.unlink(missing_ok=True)
                return
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                raise DataError(f"cannot download {url}: {reason}") from error
            if error.code == 416:  # what is here is no beginning of the file
                partial.unlink(missing_ok=True)
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        now = partial.stat().st_size if partial.is_file() else 0
        attempts = 0 if now > had else attempts + 1
        if attempts >= _MAX_ATTEMPTS:
            raise DataError(f"the download of {url} broke off after {now:,} bytes: {reason}; run it again to go on")
        time.sleep(wait)


def unpack(archive: Path, out: Path, alone: Path) -> None:
    """Unpack a .zip or .tar.*, whose files may go nowhere but below `out`; the archive is read twice.

    Where the archive has several files or folders at its top, they go into `alone`. DataError for a damaged archive,
    for links and devices in it, for names that lead out of the folder, and where there is not enough room.
    """
    try:
        with _open_archive(archive) as members:
            entries = [(name, size) for name, size, _ in members()]
            names = [_check_name(name, archive) for name, _ in entries]
            room, needed = shutil.disk_usage(out).free, sum(size for _, size in entries)
            if needed > room:
                raise DataError(f"{archive.name} needs {needed:,} bytes in {out}, where {room:,} are free")
            base = out if len({name.parts[0] for name in names}) == 1 else alone
            for name, _, stream in members():
                target = base / _check_name(name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(stream(), file, _BLOCK)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive} is damaged or no archive: {' '.join(str(error).split())}") from error
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise DataError(f"{archive} is damaged: {error}") from error
        raise


def _transfer(url: str, name: str, partial: Path, note: Path, progress: DownloadProgress) -> bool:
    """One attempt; whether the file is now whole."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url} is neither http nor https")
    start = partial.stat().st_size if partial.is_file() else 0
    validator = _read_validator(note) if start else ""
    request = urllib.request.Request(url, headers={"User-Agent": "blemish", "Accept-Encoding": "identity"})
    if start and validator:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if not resumed:
            if answer.status != 200:
                raise DataError(f"cannot download {url}: the server answers {answer.status}")
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        room = shutil.disk_usage(partial.parent).free
        if total is not None and total - start > room:
            raise DataError(f"{name} has {total:,} bytes; {room:,} are free in {partial.parent}")
        # Without a strong validator the rest could be that of another file, so that it starts again next time.
        tag = answer.headers.get("ETag") or ""
        validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or ""
        write_atomic(note, json.dumps({"validator": validator}))
        with partial.open("ab" if resumed else "wb") as file:
            done = start
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(name, done, total)
    return total is None or done == total


def _read_validator(note: Path) -> str:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("validator") or "") if isinstance(content, dict) else ""


@contextmanager
def _open_archive(
    archive: Path,
) -> Iterator[Callable[[], Iterator[tuple[str, int, Callable[[], IO[bytes]]]]]]:
    """A function that goes through the files of an archive: name, size, and a function that opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:

            def zip_members() -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
                for entry in packed.infolist():
                    kind = stat.S_IFMT(entry.external_attr >> 16)
                    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                        raise DataError(
                            f"{archive.name} holds {entry.filename!r}, which is no plain file; not unpacked"
                        )
                    if not entry.is_dir():
                        yield entry.filename, entry.file_size, lambda entry=entry: packed.open(entry)  # type: ignore[misc]

            yield zip_members
    else:
        with tarfile.open(archive) as tar:

            def tar_members() -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
                for entry in tar:
                    if not (entry.isreg() or entry.isdir()):
                        raise DataError(f"{archive.name} holds {entry.name!r}, which is no plain file; not unpacked")
                    if entry.isreg():
                        yield entry.name, entry.size, lambda entry=entry: _tar_stream(tar, entry)  # type: ignore[misc]

            yield tar_members


def _tar_stream(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(entry)
    assert stream is not None  # a plain file
    return stream


def _check_name(name: str, archive: Path) -> PurePosixPath:
    """A relative path without a step upwards; DataError for any other."""
    path = PurePosixPath(name.replace("\\", "/"))
    steps = [step for step in path.parts if step != "."]
    if path.is_absolute() or not steps or ".." in steps or ":" in steps[0] or "\0" in name:
        raise DataError(f"{archive.name} holds {name!r}, which leads out of the folder; nothing is unpacked")
    return PurePosixPath(*steps)


def _read_lock(path: Path, name: str) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known, files = content["dataset"], {str(key): dict(value) for key, value in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged; delete it, or give another place to download to") from error
    if known != name:
        raise DataError(f"{path.parent} holds {known}; give another place to download {name} to")
    return files


def _write_lock(path: Path, name: str, dataset: RemoteDataset, files: dict[str, dict[str, Any]]) -> None:
    content = {"dataset": name, "licence": dataset.licence, "page": dataset.page, "files": files}
    write_atomic(path, json.dumps(content, indent=1) + "\n")


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written, as one line."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror or error}") from error
