"""The C++ client: built with OpenVINO's headers and library, and compared with the inspector."""

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import anomaly_bundle

from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision

SOURCE = Path(__file__).parents[2] / "clients" / "cpp" / "inspect.cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    openvino = Path(pytest.importorskip("openvino").__file__).parent
    library = next((openvino / "libs").glob("libopenvino.so*"), None)
    if library is None or not (openvino / "include").is_dir():
        pytest.skip("this wheel of OpenVINO has no headers or no Linux library")
    target = tmp_path_factory.mktemp("cpp") / "inspect"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-isystem", openvino / "include",
               library, f"-Wl,-rpath,{library.parent}", "-o", target]  # fmt: skip
    subprocess.run([*map(str, command)], check=True, timeout=300)
    return target


def run(program, *arguments):
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def read_pfm(path):
    with path.open("rb") as stream:
        assert stream.readline() == b"Pf\n"
        width, height = map(int, stream.readline().split())
        assert stream.readline() == b"-1.0\n"
        return np.frombuffer(stream.read(), "<f4").reshape(height, width)[::-1]


def smooth(size, seed, dtype=np.uint8, channels=1):
    full = np.iinfo(dtype).max
    noise = np.random.default_rng(seed).random((*size, channels))
    blurred = np.atleast_3d(cv2.GaussianBlur(noise, (0, 0), 4))
    return np.round((blurred - blurred.min()) / np.ptp(blurred) * 0.9 * full).astype(dtype)


@pytest.mark.parametrize(
    ("size", "dtype", "channels"),
    [((64, 64), np.uint8, 1), ((150, 90), np.uint8, 1), ((40, 40), np.uint16, 1), ((200, 200), np.uint8, 3)],
)
def test_score_map_and_verdict_are_the_inspector_s(program, tmp_path, size, dtype, channels):
    bundle = anomaly_bundle(tmp_path / "grey.blemish", Decision(review=0.7, reject=0.8))
    image = smooth(size, 3, dtype, channels)
    file = tmp_path / ("part.ppm" if channels == 3 else "part.pgm")
    cv2.imwrite(str(file), image[..., ::-1] if channels == 3 else image)
    expected = Inspector.open(bundle).inspect(file)
    done = run(program, bundle, file, tmp_path / "map.pfm")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["score"] == pytest.approx(expected.score, abs=1.5 / 255)
    assert found["verdict"] == expected.verdict
    np.testing.assert_allclose(read_pfm(tmp_path / "map.pfm"), expected.heat_map, atol=1.5 / 255)


@pytest.mark.parametrize(("grey", "verdict"), [(100, "pass"), (140, "review"), (200, "reject")])
def test_verdicts(program, tmp_path, grey, verdict):
    bundle = anomaly_bundle(tmp_path / "grey.blemish")
    cv2.imwrite(str(tmp_path / "part.pgm"), np.full((64, 64), grey, np.uint8))
    done = run(program, bundle, tmp_path / "part.pgm")
    assert (
        json.loads(done.stdout)["verdict"] == verdict == Inspector.open(bundle).inspect(tmp_path / "part.pgm").verdict
    )


def test_what_it_cannot_do_is_refused(program, tmp_path):
    cv2.imwrite(str(tmp_path / "part.pgm"), np.full((64, 64), 9, np.uint8))
    ruled = anomaly_bundle(tmp_path / "ruled.blemish", Decision(review=0.5, reject=0.6, rules=["reject if count > 3"]))
    plain = anomaly_bundle(tmp_path / "plain.blemish")
    damaged = bytearray(plain.read_bytes())
    damaged[damaged.index(b"ReduceMax")] ^= 1
    (tmp_path / "damaged.blemish").write_bytes(bytes(damaged))
    (tmp_path / "cut.pgm").write_bytes((tmp_path / "part.pgm").read_bytes()[:-1])
    for bundle, image, words in (
        (ruled, "part.pgm", "does not support decisions with rules"),
        (tmp_path / "damaged.blemish", "part.pgm", "a checksum does not match"),
        (tmp_path / "part.pgm", "part.pgm", "is no bundle"),
        (plain, "cut.pgm", "is cut short"),
        (plain, "none.pgm", "cannot be read"),
    ):
        done = run(program, bundle, tmp_path / image)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert words in done.stderr
