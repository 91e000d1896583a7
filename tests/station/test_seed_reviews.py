"""A labelled dataset inspected at the start."""

import time
from pathlib import Path

import pytest
from graphs import anomaly_bundle
from station_helpers import (
    make_client,
    picture,
    run_station,
    wait_until,
)

from blemish.files import file_sha256
from blemish.inspection.seen_images import SEEN, pack_seen


def test_a_labelled_dataset_is_inspected_once_and_its_labels_entered(tmp_path: Path, bundle_file: Path) -> None:
    for kind, seeds in (("good", (1, 2)), ("defect", (3,))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for seed in seeds:
            (tmp_path / "data" / kind / f"{seed}.png").write_bytes(picture(defect=kind == "defect", seed=seed))
    (tmp_path / "data" / "good" / "broken.png").write_bytes(b"no image")
    seen = tmp_path / "seen.png"
    seen.write_bytes(picture(seed=9))
    lines = [f"data/{kind}/{name},{kind},test" for kind, name in (
        ("good", "1.png"), ("good", "broken.png"), ("good", "2.png"), ("defect", "3.png"),
    )]  # fmt: skip
    (tmp_path / "parts.csv").write_text("\n".join(["image,label,split", "seen.png,good,train", *lines]))
    for _ in range(2):  # again after a restart
        with run_station(tmp_path / "s", bundle_file, known=[tmp_path / "parts.csv"]) as station:
            client = make_client(station)
            wait_until(lambda: client.get("/v1/inspections", params={"reviewed": True}).json()["total"] == 3)  # noqa: B023
            time.sleep(0.3)
            found = client.get("/v1/inspections").json()["items"]
            assert {(part["verdict"], part["reviews"][0]["label"]) for part in found} == {
                ("pass", "good"),
                ("reject", "defect"),
            }
            assert [len(part["reviews"]) for part in found] == [1, 1, 1]
            assert {part["part_id"] for part in found} == {"good/1.png", "good/2.png", "defect/3.png"}


def test_images_that_the_bundle_learnt_from_are_no_known_parts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [tmp_path / "data" / "good" / f"{seed}.png" for seed in range(4)]
    images[0].parent.mkdir(parents=True)
    for seed, image in enumerate(images):
        image.write_bytes(picture(seed=seed))
    splits = dict(zip((file_sha256(image)[:16] for image in images), ("train", "tuning", "val"), strict=False))
    bundle = anomaly_bundle(tmp_path / "grey.blemish", extra={SEEN: pack_seen(splits)})
    with run_station(tmp_path / "s", bundle, known=[tmp_path / "data"]) as station:
        client = make_client(station)
        wait_until(lambda: client.get("/v1/inspections", params={"reviewed": True}).json()["total"] >= 2)
        time.sleep(0.3)
        found = client.get("/v1/inspections").json()["items"]
        assert {part["part_id"] for part in found} == {"good/2.png", "good/3.png"}
    assert "2 of 4 images in" in caplog.text
