"""GenICam by Aravis, against the fake GigE Vision camera of its tools, which the tests start."""

import json
import shutil
import subprocess
import time

import numpy as np
import pytest

from blemish.errors import MissingExtraError, OptionError
from blemish.station.cameras.aravis import AravisDriver, list_cameras, load_aravis
from blemish.station.cameras.camera import CameraLostError, CameraTimeoutError, FrameLostError
from blemish.station.cameras.connect import open_camera
from blemish.station.cameras.settings import CameraSettings, settings_differences
from blemish.station.tickets import NotAnsweredError

PROGRAM = "arv-fake-gv-camera-0.8"
OPTIONS = {"packet_size": "8192", "socket": "udp"}
SMALL = (0, 0, 128, 96)


@pytest.fixture(scope="module", autouse=True)
def aravis():
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"no {PROGRAM}: apt install aravis-tools; GigE Vision is not tested")
    try:
        return load_aravis()
    except MissingExtraError as error:
        pytest.skip(f"{error}; GigE Vision is not tested")


class FakeCamera:
    """A process that is a camera."""

    def __init__(self, serial, *arguments):
        self.serial, self.arguments, self.name = serial, arguments, f"Aravis-Fake-{serial}"
        self.start()

    def start(self):
        command = [PROGRAM, "-i", "127.0.0.1", "-s", self.serial, *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while self.name not in list_cameras():
            assert time.monotonic() < until, "the fake camera does not start"
            time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def fake():
    camera = FakeCamera("T1")
    yield camera
    camera.kill()


def taken(driver, attempts=10):
    """A picture; a busy machine loses frames, which is said and never a picture."""
    for _ in range(attempts):
        try:
            return driver.take(3.0)
        except FrameLostError:
            continue
    raise AssertionError("all frames were lost")


def test_settings_are_made_and_read_back(fake):
    driver = AravisDriver(fake.name, OPTIONS)
    wanted = CameraSettings(exposure_us=5000, gain_db=3, roi=(8, 16, 128, 96), pixel_format="Mono8", trigger="software")
    driver.apply(wanted)
    assert settings_differences(wanted, driver.settings()) == []
    image = taken(driver)
    assert (image.shape, image.dtype) == ((96, 128, 1), np.uint8)
    for pixel_format, shape, dtype in (
        ("Mono16", (96, 128, 1), np.uint16), ("RGB8", (96, 128, 3), np.uint8), ("BayerRG8", (96, 128, 3), np.uint8),
    ):  # fmt: skip
        driver.apply(CameraSettings(pixel_format=pixel_format))
        image = taken(driver)
        assert (image.shape, image.dtype) == (shape, dtype), pixel_format
        assert image.std() > 0
    with pytest.raises(Exception, match="Mono12p"):  # the device does not have it
        driver.apply(CameraSettings(pixel_format="Mono12p"))
    driver.close()


def test_triggers(fake):
    driver = AravisDriver(fake.name, OPTIONS)
    driver.apply(CameraSettings(roi=SMALL, pixel_format="Mono8", trigger="software"))
    for _ in range(3):
        assert taken(driver).shape == (96, 128, 1)
    driver.apply(CameraSettings(trigger="hardware", trigger_source="Line0"))  # which nobody pulls
    with pytest.raises(CameraTimeoutError):
        driver.take(0.3)
    driver.apply(CameraSettings(trigger="free"))
    assert taken(driver).shape == (96, 128, 1)
    driver.close()


def test_a_longer_exposure_is_brighter(fake):
    """The fake camera's grey levels grow with exposure and gain."""
    driver = AravisDriver(fake.name, OPTIONS)
    means = []
    for exposure in (2000.0, 8000.0):
        driver.apply(CameraSettings(roi=SMALL, pixel_format="Mono8", exposure_us=exposure, trigger="software"))
        means.append(taken(driver).mean())
    driver.close()
    assert means[1] > means[0] + 1


def test_lost_packets_are_no_picture():
    camera = FakeCamera("T2", "-r", "500")  # every second packet
    try:
        driver = AravisDriver(camera.name, {"packet_size": "1400", "socket": "udp"})
        driver.apply(CameraSettings(roi=(0, 0, 256, 256), pixel_format="Mono8", trigger="software"))
        for _ in range(3):
            with pytest.raises((FrameLostError, CameraTimeoutError)):
                driver.take(2.0)
        driver.close()
    finally:
        camera.kill()


def test_a_camera_that_goes_and_comes_back_is_counted_and_recorded(fake, tmp_path):
    settings = CameraSettings(roi=SMALL, pixel_format="Mono8", trigger="software")
    camera = open_camera(f"aravis:{fake.name}?packet_size=8192&socket=udp", settings, tmp_path)
    assert camera.open() == []
    taken_image(camera)
    fake.kill()
    with pytest.raises(NotAnsweredError):
        camera.take()
    fake.start()
    until = time.monotonic() + 30
    while camera.counts.reconnects == 0:
        assert time.monotonic() < until
        try:
            camera.take()
        except NotAnsweredError:
            time.sleep(0.2)
    assert taken_image(camera).shape == (96, 128, 1)
    camera.close()
    events = [json.loads(line)["event"] for line in (tmp_path / "camera.jsonl").read_text().splitlines()]
    assert "opened again" in events
    assert "lost" in events or "timeout" in events
    assert camera.counts.reconnects == 1


def taken_image(camera):
    for _ in range(10):
        try:
            return camera.take()
        except NotAnsweredError:
            continue
    raise AssertionError("no picture")


def test_what_is_no_camera():
    with pytest.raises(CameraLostError, match="no camera nobody"):
        AravisDriver("nobody", {})
    with pytest.raises(OptionError, match="unknown option 'speed'"):
        AravisDriver("nobody", {"speed": "1"})
