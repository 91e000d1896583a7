"""Downloads from a server of our own: whole, broken off, changed, refused; archives that would write elsewhere."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import pytest
from reader_cases import picture

from blemish.cli import main
from blemish.cli.options import DownloadName
from blemish.dataset.download import DATASETS, LOCK_NAME, RemoteDataset, RemoteFile, download_dataset, fetch, unpack
from blemish.dataset.read import read_dataset
from blemish.errors import DataError, OptionError


class Server:
    """Serves `files`; `breaks` is after how many bytes each of the next answers breaks off."""

    def __init__(self):
        self.files = {}
        self.breaks = []
        self.statuses = []
        self.ranges = True
        self.validators = True
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, request):
        asked = request.headers.get("Range")
        self.requests.append(asked)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            request.send_error(status)
            return
        content = self.files.get(request.path.strip("/"))
        if content is None:
            request.send_error(404)
            return
        tag, start = f'"{hashlib.sha256(content).hexdigest()[:8]}"', 0
        if asked and self.ranges and request.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        if self.validators:
            request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        end = start + self.breaks.pop(0) if self.breaks else len(content)
        request.wfile.write(content[start:end])
        request.close_connection = True


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def packed(folder, kind="zip"):
    """A folder as an archive."""
    stream = io.BytesIO()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(folder))
    else:
        with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:
            for path in files:
                archive.add(path, path.relative_to(folder))
    return stream.getvalue()


@pytest.fixture
def archive(tmp_path):
    for i, name in enumerate(("train/good/0", "test/good/1", "test/dent/2")):
        picture(tmp_path / "made" / f"{name}.png", i)
    return packed(tmp_path / "made")


def remote(server, content, name="set.zip", sha256=None):
    """A dataset of one archive on the server; its checksum is known unless it is given as ""."""
    server.files[name] = content
    digest = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
    return {
        "set": RemoteDataset(
            "A set", "CC BY 4.0", "http://page", (RemoteFile(f"{server.address}/{name}", name, digest),)
        )
    }


def get(datasets, out, name="set"):
    return download_dataset(name, out, True, datasets=datasets, wait=0.0)


@pytest.mark.parametrize("kind", ["zip", "gz", "xz", ""])
def test_whole_download_is_read(server, archive, tmp_path, kind):
    content = archive if kind == "zip" else packed(tmp_path / "made", kind)
    steps = []
    download_dataset(
        "set", tmp_path / "out", True, lambda *step: steps.append(step), remote(server, content, f"set.{kind}"), 0.0
    )
    assert [s.label for s in read_dataset(tmp_path / "out").samples].count("good") == 2
    assert steps[-1] == (f"set.{kind}", len(content), len(content))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "test", LOCK_NAME}
    assert len(server.requests) == 1
    get(remote(server, content, f"set.{kind}"), tmp_path / "out")  # all is there
    assert len(server.requests) == 1


def test_broken_transfer_goes_on_where_it_was(server, archive, tmp_path):
    server.breaks = [1000, 500, 7]
    get(remote(server, archive), tmp_path / "out")
    assert server.requests == [None, "bytes=1000-", "bytes=1500-", "bytes=1507-"]
    assert len(read_dataset(tmp_path / "out")) == 3


def test_next_call_goes_on_where_the_last_one_gave_up(server, archive, tmp_path):
    server.breaks = [1000] + [0] * 5
    with pytest.raises(DataError, match=r"broke off after 1,000 bytes.*run it again"):
        get(remote(server, archive), tmp_path / "out")
    server.requests.clear()
    get(remote(server, archive), tmp_path / "out")
    assert server.requests == ["bytes=1000-"]
    assert len(read_dataset(tmp_path / "out")) == 3


@pytest.mark.parametrize("missing", ["ranges", "validators"])
def test_server_that_cannot_resume_starts_again(server, archive, tmp_path, missing):
    setattr(server, missing, False)
    server.breaks = [1000, 500]
    get(remote(server, archive), tmp_path / "out")
    assert len(read_dataset(tmp_path / "out")) == 3


def test_file_that_changed_meanwhile_is_not_mixed(server, archive, tmp_path):
    server.breaks = [1000] + [0] * 5
    with pytest.raises(DataError, match="broke off"):
        get(remote(server, archive, sha256=""), tmp_path / "out")
    picture(tmp_path / "made/test/dent/3.png", 9)
    get(remote(server, packed(tmp_path / "made"), sha256=""), tmp_path / "out")
    assert len(read_dataset(tmp_path / "out")) == 4


def test_wrong_checksum_is_refused_and_nothing_unpacked(server, archive, tmp_path):
    with pytest.raises(DataError, match=r"set.zip .* is damaged or another file.*deleted"):
        get(remote(server, archive, sha256="0" * 64), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LOCK_NAME}


def test_first_download_pins_the_checksum(server, archive, tmp_path):
    get(remote(server, archive, sha256=""), tmp_path / "out")
    lock = json.loads((tmp_path / "out" / LOCK_NAME).read_text())
    assert lock["files"]["set.zip"]["sha256"] == hashlib.sha256(archive).hexdigest()
    assert lock["licence"] == "CC BY 4.0"
    lock["files"]["set.zip"]["unpacked"] = False
    (tmp_path / "out" / LOCK_NAME).write_text(json.dumps(lock))
    picture(tmp_path / "made/test/dent/3.png", 9)
    with pytest.raises(DataError, match="another file"):
        get(remote(server, packed(tmp_path / "made"), sha256=""), tmp_path / "out")


def test_busy_server_is_asked_again(server, archive, tmp_path):
    server.statuses = [503, 429, 200]
    get(remote(server, archive), tmp_path / "out")
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (500, 5)])
def test_refusals_are_one_line(server, archive, tmp_path, status, asked):
    server.statuses = [status] * 9
    with pytest.raises(DataError, match=str(status)) as caught:
        get(remote(server, archive), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert len(server.requests) == asked


def test_no_server_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/x"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", wait=0.0)


def test_other_schemes_are_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(DataError, match="neither http nor https"):
        fetch(f"file://{tmp_path}/secret", tmp_path / "x", wait=0.0)


def test_licence_has_to_be_accepted(server, archive, tmp_path):
    with pytest.raises(OptionError, match=r"CC BY 4.0, see http://page.*--accept-licence"):
        download_dataset("set", tmp_path / "out", datasets=remote(server, archive))
    assert not (tmp_path / "out").exists()
    assert server.requests == []


def test_unknown_name(tmp_path):
    with pytest.raises(OptionError, match="did you mean visa"):
        download_dataset("vsia", tmp_path, True)


def test_folder_with_other_content_is_refused(server, archive, tmp_path):
    (tmp_path / "made/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        get(remote(server, archive), tmp_path / "made")
    get(remote(server, archive), tmp_path / "out")
    with pytest.raises(DataError, match="holds set"):
        get({"other": remote(server, archive)["set"]}, tmp_path / "out", "other")


def test_damaged_lock_is_named(server, archive, tmp_path):
    get(remote(server, archive), tmp_path / "out")
    (tmp_path / "out" / LOCK_NAME).write_text("{")
    with pytest.raises(DataError, match=LOCK_NAME):
        get(remote(server, archive), tmp_path / "out")


def test_several_archives_have_a_folder_each(server, archive, tmp_path):
    files = tuple(RemoteFile(f"{server.address}/{name}", name) for name in ("one.zip", "two.zip"))
    server.files = {"one.zip": archive, "two.zip": archive}
    server.breaks = [10**9, 100] + [0] * 5
    datasets = {"set": RemoteDataset("A set", "CC BY 4.0", "http://page", files)}
    with pytest.raises(DataError, match=r"two\.zip broke off"):
        get(datasets, tmp_path / "out")
    server.requests.clear()
    get(datasets, tmp_path / "out")
    assert server.requests == ["bytes=100-"]  # the first is not asked for again
    assert len(read_dataset(tmp_path / "out", "mvtec")) == 6


def zipped(*entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def tarred(name, kind=tarfile.REGTYPE, link=""):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        sound = tarfile.TarInfo("set/a.txt")
        sound.size = 1
        archive.addfile(sound, io.BytesIO(b"a"))
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry, io.BytesIO(b""))
    return stream.getvalue()


EVIL = {
    "zip upwards": zipped(("a.txt", "a", 0), ("../evil.txt", "x", 0)),
    "zip absolute": zipped(("/tmp/evil.txt", "x", 0)),
    "zip upwards by Windows' way": zipped(("..\\evil.txt", "x", 0)),
    "zip with a drive": zipped(("C:\\evil.txt", "x", 0)),
    "zip with a link": zipped(("link", "/etc/passwd", 0o120777)),
    "tar upwards": tarred("../evil.txt"),
    "tar absolute": tarred("/tmp/evil.txt"),
    "tar with a link": tarred("set/link", tarfile.SYMTYPE, "/etc"),
    "tar with a hard link": tarred("set/link", tarfile.LNKTYPE, "../../evil.txt"),
    "tar with a device": tarred("set/device", tarfile.CHRTYPE),
    "tar with a pipe": tarred("set/pipe", tarfile.FIFOTYPE),
    "no archive": b"<html>please sign in</html>",
    "cut zip": zipped(("a.txt", "a" * 1000, 0))[:-30],
    "nothing": b"",
}


@pytest.mark.parametrize("fault", EVIL)
def test_archives_that_are_not_unpacked(tmp_path, fault):
    (tmp_path / "set.bin").write_bytes(EVIL[fault])
    (tmp_path / "in/out").mkdir(parents=True)
    with pytest.raises(DataError, match=r"set\.bin"):
        unpack(tmp_path / "set.bin", tmp_path / "in/out", tmp_path / "in/out")
    assert list((tmp_path / "in").rglob("*")) == [tmp_path / "in/out"]


def test_damaged_content_is_named(tmp_path, archive):
    spoilt = bytearray(archive)
    at = archive.index(b"IDAT") + 40
    spoilt[at] ^= 255
    (tmp_path / "set.zip").write_bytes(bytes(spoilt))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"set.zip is damaged"):
        unpack(tmp_path / "set.zip", tmp_path / "out", tmp_path / "out")


def test_too_little_room_is_said_before(tmp_path, archive, monkeypatch):
    (tmp_path / "set.zip").write_bytes(archive)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match=r"needs [\d,]+ bytes"):
        unpack(tmp_path / "set.zip", tmp_path / "out", tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_full_disk_is_one_line(server, archive, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DataError, match="No space left on device"):
        get(remote(server, archive), tmp_path / "out")


def test_published_table_is_complete():
    assert list(DATASETS) == list(get_args(DownloadName))
    for name, dataset in DATASETS.items():
        assert dataset.licence.startswith(("CC BY", "none stated")), name
        assert dataset.page.startswith("http"), name
        for file in dataset.files:
            assert file.url.startswith("https://"), name
            assert len(file.sha256) in (0, 64), name
        assert len({file.name for file in dataset.files}) == len(dataset.files)


def test_command(server, archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "visa", remote(server, archive)["set"])

    def run(*words):
        monkeypatch.setattr("sys.argv", ["blemish", "data", "download", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0

    assert run("visa", str(tmp_path / "out")) == 2
    assert "--accept-licence" in capsys.readouterr().err
    assert run("visa", str(tmp_path / "out"), "--accept-licence") == 0
    assert "CC BY 4.0" in " ".join(capsys.readouterr().out.split())
    assert len(read_dataset(tmp_path / "out")) == 3
