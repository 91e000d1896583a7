"""Fixtures of several test files: the folder of real data, and a tiny synthetic data set."""

import ctypes
import gc
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from blemish.dataset.read import read_dataset
from blemish.dataset.sample import Dataset
from blemish.dataset.split import ensure_splits

# The same examples in each run: a change is not refused for what another one did. `--hypothesis-profile=search` looks
# for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile("same")

SIDE = 64
MAX_RESIDENT_BYTES, GROWTH_BYTES = 1_200_000_000, 200_000_000
LONGEST = ("test_docs.py", "test_pages.py", "test_contract.py", "test_notebooks.py", "test_killed_station.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: of several processes none is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def kept_memory() -> list[int]:
    """Bytes that were resident after freed memory was last given back."""
    return [MAX_RESIDENT_BYTES - GROWTH_BYTES]


@pytest.fixture(scope="module", autouse=True)
def released_memory(kept_memory: list[int]):
    """Freed memory goes back to the system after files that took much: networks of many sizes fragment the heap."""
    yield
    if resident_bytes() > kept_memory[0] + GROWTH_BYTES:  # not after every file: a collection takes half a second
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)
        kept_memory[0] = resident_bytes()


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.fixture(scope="session", autouse=True)
def brief_shipping():
    """Trainings in tests teach no refinement of regions, cross-fit where asked to, and try few synthetic defects."""
    few_good = 0
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("torch") is not None:
            from blemish.training.learn import prepare

            few_good = prepare.FEW_GOOD
            patch.setattr(prepare, "FEW_GOOD", 0)
            patch.setattr("blemish.training.ship.refine.MIN_GOOD", 10**6)
            patch.setattr("blemish.training.ship.estimate_uncertainty.MAX_TRIALS", 10)
            patch.setattr("blemish.training.ship.forecast.TRIALS", 12)
        yield few_good


@pytest.fixture
def cross_fit_few_good(brief_shipping: int, monkeypatch: pytest.MonkeyPatch):
    """Trainings on few good images are cross-fitted without being asked to, as users have it."""
    monkeypatch.setattr("blemish.training.learn.prepare.FEW_GOOD", brief_shipping)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that BLEMISH_DATA names, with mvtec_ad, magnetic_tile and others in it; skips where there is none."""
    folder = os.environ.get("BLEMISH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real images: set BLEMISH_DATA to the folder that holds mvtec_ad, magnetic_tile, ...")
    return Path(folder)


def draw(kind: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A brushed surface with a scratch, a pit or nothing on it, and the mask of the defect."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 40, (SIDE, SIDE)), (0, 0), sigmaX=6, sigmaY=0.7)
    image = (130 + 3 * grain + rng.normal(0, 3)).clip(0, 255)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = rng.integers(16, SIDE - 16, 2).tolist()
    if kind == "scratch":
        dx, dy = rng.integers(-14, 15, 2).tolist()
        cv2.line(mask, (x - dx, y - dy), (x + dx, y + dy), 255, 3)
    elif kind == "pit":
        cv2.circle(mask, (x, y), 6, 255, -1)
    image[mask > 0] = 20 if kind == "scratch" else 245
    return np.repeat(image.astype(np.uint8)[..., None], 3, axis=2), mask


@dataclass(frozen=True)
class TinyData:
    """Sixteen good images and eight of each of two defects for training, in the MVTec layout; others on demand."""

    folder: Path

    def dataset(self, requires: tuple[str, ...]) -> Dataset:
        """Good images to train on, or, for a method that needs labels, defects too."""
        if requires == ("good",):
            return read_dataset(self.folder / "mvtec")
        return ensure_splits(read_dataset(self.folder / "labelled.csv"), seed=0, need_defects_in_training=True)

    def images(self, *kinds: str, count: int, channels: int = 3) -> NDArray[np.float32]:
        """`count` fresh images of each kind ("good", "defect"): (N, channels, SIDE, SIDE) in [0, 1]."""
        found = []
        for kind in kinds:
            for i in range(count):
                drawn = kind if kind == "good" else ("scratch", "pit")[i % 2]
                found.append(draw(drawn, seed=9000 + i)[0][..., :channels])
        return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2), dtype=np.float32) / 255

    def without_truth(self) -> Path:
        """A CSV of images of which nothing is known."""
        return self.folder / "unlabelled.csv"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    folder = tmp_path_factory.mktemp("tiny")
    rows, bare = ["image,label,mask,split"], ["image,split"]
    seed = 0
    for split, kind, count in [
        ("train", "good", 16), ("test", "good", 4), ("test", "scratch", 8), ("test", "pit", 8),
    ]:  # fmt: skip
        for i in range(count):
            image, mask = draw(kind, seed)
            seed += 1
            path = folder / "mvtec" / split / kind / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[..., ::-1])
            truth = ""
            if kind != "good":
                truth = f"mvtec/ground_truth/{kind}/{i:03}_mask.png"
                (folder / truth).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / truth), mask)
            relative = path.relative_to(folder)
            part = "val" if i % 4 == 3 else "train"
            rows.append(f"{relative},{kind},{truth},{part}")
            bare.append(f"{relative},train")
    (folder / "labelled.csv").write_text("\n".join(rows) + "\n")
    (folder / "unlabelled.csv").write_text("\n".join(bare) + "\n")
    return TinyData(folder)
