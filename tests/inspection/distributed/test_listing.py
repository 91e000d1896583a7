"""Images of paths, folders, patterns, URLs and lists."""

import http.server
import threading
from functools import partial
from pathlib import Path

import pytest

from blemish.errors import DataError, MissingExtraError, OptionError

pyarrow = pytest.importorskip("pyarrow", reason="Ray's extra is not installed")
pytest.importorskip("fsspec", reason="Ray's extra is not installed")
from pyarrow import parquet  # noqa: E402

from blemish.inspection.distributed.listing import list_sources  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.JPG", "a/deep/3.tif", "b/4.png", "b/notes.txt", "b/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def listed(folder: Path, *sources: str | Path) -> list[str]:
    names = [name.removeprefix("file://") for name in list_sources(map(str, sources))]
    return [str(Path(name).relative_to(folder)) for name in names]


def test_folders_patterns_and_files_are_listed_with_absolute_paths(folder, monkeypatch):
    assert listed(folder, folder / "a") == ["a/1.png", "a/2.JPG", "a/deep/3.tif"]
    assert listed(folder, folder / "*" / "*.png") == ["a/1.png", "b/4.png"]
    assert listed(folder, folder / "b" / "none.png") == ["b/none.png"]
    monkeypatch.chdir(folder)
    assert listed(folder, "a/1.png", "b") == ["a/1.png", "b/4.png"]


def test_a_url_lists_what_the_path_lists(folder):
    assert listed(folder, f"file://{folder}/a") == listed(folder, folder / "a")
    assert listed(folder, f"file://{folder}/*/*.png") == listed(folder, folder / "*" / "*.png")
    assert listed(folder, f"file://{folder}/a/1.png") == ["a/1.png"]


def test_lists_in_csv_and_parquet_give_paths_relative_to_themselves_and_urls(folder):
    names = ["a/1.png", str(folder / "b/4.png"), "s3://bucket/x,y.png", "007.png"]
    (folder / "list.csv").write_text(
        f'label,image\ngood,a/1.png\n,{names[1]}\n,"s3://bucket/x,y.png"\nbad,007.png\n,\n'
    )
    parquet.write_table(pyarrow.table({"other": [1, 2, 3, 4], "path": names}), folder / "list.parquet")
    expected = [str(folder / "a/1.png"), names[1], names[2], str(folder / "007.png")]
    assert list(list_sources([str(folder / "list.csv")])) == expected
    assert list(list_sources([str(folder / "list.parquet")])) == expected
    by_url = list(list_sources([f"file://{folder}/list.csv"]))
    assert by_url == [f"file://{folder}/a/1.png", names[1], names[2], f"file://{folder}/007.png"]


def test_a_long_list_is_read_in_pieces(folder, monkeypatch):
    monkeypatch.setattr("blemish.inspection.distributed.listing._PIECE", 10)
    names = [f"{i}.png" for i in range(95)]
    parquet.write_table(pyarrow.table({"image": names}), folder / "long.parquet")
    assert listed(folder, folder / "long.parquet") == names


def test_a_list_over_http_is_read(folder):
    (folder / "list.csv").write_text("image\na/1.png\n")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        assert list(list_sources([f"{root}/list.csv"])) == [f"{root}/a/1.png"]
        server.shutdown()


@pytest.mark.parametrize("content", [b"name,label\nx,y\n", b"", b"\xff\xfe,image\n\x00"])
def test_a_list_that_cannot_be_read_is_an_error_that_names_it(folder, content):
    for name in ("list.csv", "list.parquet"):
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            list(list_sources([str(folder / name)]))


def test_an_unknown_kind_of_url_is_refused(folder):
    with pytest.raises(OptionError, match="nowhere"):
        list(list_sources(["nowhere://bucket/x"]))


def test_a_url_whose_library_is_not_installed_says_which(folder, monkeypatch):
    import fsspec

    def missing(name):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match="s3fs"):
        list(list_sources(["s3://bucket/folder"]))
