"""The station's side of a camera with a stand-in: counters, reconnects and settings; addresses and plug-ins; and
Harvesters by its contract."""

import inspect
import json

import cv2
import numpy as np
import pytest

from blemish.errors import OptionError
from blemish.station.cameras import connect
from blemish.station.cameras.camera import Camera, CameraLog, CameraLostError, CameraTimeoutError, FrameLostError
from blemish.station.cameras.connect import camera_label, driver_maker
from blemish.station.cameras.harvesters import HarvestersDriver
from blemish.station.cameras.settings import CameraSettings, settings_differences
from blemish.station.cameras.video import VideoDriver
from blemish.station.tickets import NotAnsweredError

IMAGE = np.full((4, 5, 1), 7, np.uint8)


class StandIn:
    """Gives what a script says, one entry a picture; rounds exposures to multiples of `step`."""

    def __init__(self, script=(), step=1.0):
        self.script, self.step, self.now, self.closed = list(script), step, CameraSettings(), False

    def apply(self, settings):
        own = settings.exposure_us
        rounded = None if own is None else round(own / self.step) * self.step
        self.now = settings.model_copy(update={"exposure_us": rounded})

    def settings(self):
        return self.now

    def take(self, timeout_s):
        entry = self.script.pop(0) if self.script else IMAGE
        if isinstance(entry, Exception):
            raise entry
        return entry

    def close(self):
        self.closed = True


def test_faults_are_counted_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.station.cameras.camera.REOPEN_S", 0.0)
    script = [IMAGE, CameraTimeoutError("late"), FrameLostError("packets"), OSError("unplugged")]
    drivers = [StandIn(script), StandIn()]
    waiting = list(drivers)
    camera = Camera("top", lambda: waiting.pop(0), record=CameraLog(tmp_path / "camera.jsonl").append)
    assert (camera.take() == IMAGE).all()
    for message in ("within", "lost parts", "is lost"):
        with pytest.raises(NotAnsweredError, match=message):
            camera.take()
    assert drivers[0].closed
    assert (camera.take() == IMAGE).all()
    counts = camera.counts
    assert (counts.frames, counts.lost, counts.timeouts, counts.reconnects) == (2, 1, 1, 1)
    events = [json.loads(line)["event"] for line in (tmp_path / "camera.jsonl").read_text().splitlines()]
    assert events == ["timeout", "frame lost", "lost", "opened again"]


def test_a_lost_device_is_not_opened_all_the_time():
    opened = []

    def fail():
        opened.append(1)
        raise OSError("not there")

    camera = Camera("top", fail)
    for _ in range(5):
        with pytest.raises(NotAnsweredError):
            camera.take()
    assert len(opened) == 1


def test_settings_that_a_device_does_not_take_are_no_picture():
    camera = Camera("top", lambda: StandIn(step=1000.0), CameraSettings(exposure_us=1400.0))
    with pytest.raises(NotAnsweredError, match=r"exposure_us is 1000.0, and should be 1400.0"):
        camera.take()
    assert camera.counts.refused == 1
    assert Camera("top", lambda: StandIn(step=10.0), CameraSettings(exposure_us=1404.0)).open() == []  # 0.3 % off


def test_differences_of_settings():
    actual = CameraSettings(exposure_us=1000, gain_db=2, roi=(0, 0, 8, 8), pixel_format="Mono8", trigger="software")
    assert settings_differences(CameraSettings(), actual) == []
    assert settings_differences(actual, actual) == []
    wanted = CameraSettings(exposure_us=1030, gain_db=2.1, roi=(0, 0, 8, 4), pixel_format="Mono12")
    lines = settings_differences(wanted, actual)
    assert [line.split()[0] for line in lines] == ["exposure_us", "roi", "pixel_format"]
    assert settings_differences(CameraSettings(gain_db=1.0), CameraSettings()) == ["gain_db is None, and should be 1.0"]


def test_video_files(tmp_path):
    path = str(tmp_path / "parts.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"FFV1"), 10, (32, 24))
    for level in (50, 100):
        video.write(np.full((24, 32, 3), level, np.uint8))
    video.release()
    driver = driver_maker(path)()
    assert [round(driver.take(1).mean()) for _ in range(3)] == [50, 100, 50]  # it begins again
    with pytest.raises(ValueError, match="exposure_us of the recipe's camera settings cannot be set"):
        driver.apply(CameraSettings(exposure_us=10))
    driver.close()
    with pytest.raises(CameraLostError):
        VideoDriver(str(tmp_path / "gone.avi"))
    assert camera_label(path) == "parts.avi"
    assert camera_label("rtsp://anna:geheim@belt.local/1") == "belt.local"
    assert camera_label("aravis:Fake-1?packet_size=9000") == "aravis:Fake-1"


def test_plug_ins_and_addresses(tmp_path, monkeypatch):
    class Point:
        name, value = "acme", "acme_cameras:open"

        def load(self):
            return lambda name, options: (name, dict(options))

    monkeypatch.setattr(connect, "entry_points", lambda group: [Point()] if group == "blemish.cameras" else [])
    assert driver_maker("acme:SN7?speed=fast")() == ("SN7", {"speed": "fast"})

    class Broken(Point):
        def load(self):
            raise ImportError("no acme")

    monkeypatch.setattr(connect, "entry_points", lambda group: [Broken()])
    with pytest.raises(OptionError, match=r"'acme' .* cannot be loaded: no acme"):
        driver_maker("acme:SN7")
    with pytest.raises(OptionError, match="no GenTL producer"):
        driver_maker(f"harvesters:{tmp_path / 'gone.cti'}")
    with pytest.raises(OptionError, match="no camera or video"):
        driver_maker("nikon:1")


class Node:
    def __init__(self, value=None, run=None):
        self.value, self.execute = value, run


class Nodes:
    """SFNC's features of a camera; OffsetX and OffsetY must leave room, as in real ones."""

    def __init__(self, trigger):
        for name, value in {
            "PixelFormat": "Mono8", "OffsetX": 0, "OffsetY": 0, "Width": 16, "Height": 8, "ExposureTime": 100.0,
            "Gain": 0.0, "ExposureAuto": "Continuous", "GainAuto": "Continuous", "TriggerSelector": "",
            "TriggerMode": "", "TriggerSource": "",
        }.items():  # fmt: skip
            setattr(self, name, Node(value))
        self.TriggerSoftware = Node(run=trigger)


class FakeBuffer:
    def __init__(self, acquirer, data, nodes):
        self._acquirer = acquirer
        part = type("Component", (), {})()
        part.data, part.data_format = data, nodes.PixelFormat.value
        part.height, part.width = nodes.Height.value, nodes.Width.value
        self.payload = type("Payload", (), {"components": [part]})()
        acquirer.free -= 1

    def queue(self):
        self._acquirer.free += 1


class FakeAcquirer:
    """As ImageAcquirer of Harvesters 1.4: try_fetch gives None at once for a frame that is not whole."""

    def __init__(self):
        self.nodes = Nodes(lambda: self.ready.append("new"))
        self.remote_device = type("Device", (), {"node_map": self.nodes})()
        self.ready, self.num_buffers, self.running, self.free = ["old"], 0, False, 0

    def start(self):
        self.running, self.free = True, self.num_buffers

    def stop(self):
        self.running = False

    def destroy(self):
        assert not self.running

    def try_fetch(self, *, timeout):
        assert self.running
        assert timeout > 0, "Harvesters would wait for ever"
        if not self.ready:
            import time

            time.sleep(timeout)
            return None
        kind = self.ready.pop(0)
        if kind == "broken":
            return None
        size = self.nodes.Height.value * self.nodes.Width.value
        return FakeBuffer(self, np.full(size, 9 if kind == "new" else 1, np.uint8), self.nodes)


class FakeHarvester:
    def __init__(self):
        self.acquirer, self.files, self.was_reset = FakeAcquirer(), [], False

    def add_file(self, path):
        self.files.append(path)

    def update(self):
        pass

    def create(self, search_key=None):
        if search_key == {"serial_number": "gone"}:
            raise ValueError("no device")
        return self.acquirer

    def reset(self):
        self.was_reset = True


def test_harvesters_by_its_contract():
    harvester = FakeHarvester()
    driver = HarvestersDriver("producer.cti", {}, harvester)
    assert harvester.files == ["producer.cti"]
    wanted = CameraSettings(exposure_us=50, gain_db=1, roi=(2, 4, 8, 4), pixel_format="Mono8", trigger="software")
    driver.apply(wanted)
    assert settings_differences(wanted, driver.settings()) == []
    assert harvester.acquirer.nodes.ExposureAuto.value == "Off"
    assert (driver.take(0.2) == 9).all()  # not the old frame that was waiting
    assert driver.take(0.2).shape == (4, 8, 1)
    assert harvester.acquirer.free == harvester.acquirer.num_buffers  # all buffers went back
    harvester.acquirer.nodes.TriggerSoftware.execute = lambda: harvester.acquirer.ready.append("broken")
    with pytest.raises(FrameLostError):
        driver.take(0.2)
    harvester.acquirer.nodes.TriggerSoftware.execute = lambda: None
    with pytest.raises(CameraTimeoutError):
        driver.take(0.05)
    driver.close()
    assert harvester.was_reset
    with pytest.raises(CameraLostError, match="no camera gone"):
        HarvestersDriver("producer.cti", {"serial": "gone"}, FakeHarvester())


def test_the_stand_in_has_the_calls_of_the_library():
    core = pytest.importorskip("harvesters.core", reason="harvesters is not installed; its contract is not compared")
    for name in ("add_file", "update", "create", "reset"):
        assert callable(getattr(core.Harvester, name))
    assert "search_key" in inspect.signature(core.Harvester.create).parameters
    for name in ("start", "stop", "destroy", "try_fetch"):
        assert callable(getattr(core.ImageAcquirer, name))
    assert "timeout" in inspect.signature(core.ImageAcquirer.try_fetch).parameters
    assert isinstance(core.ImageAcquirer.num_buffers, property)
    assert callable(core.Buffer.queue)
