"""The line by S7: python-snap7's own server is the PLC, whose data block the station reads and writes."""

import socket
import struct
from contextlib import contextmanager
from importlib.metadata import entry_points

import pytest

from blemish.errors import OptionError
from blemish.inspection.result import Verdict
from blemish.station.line.connect import TRANSPORTS, make_transport
from blemish.station.line.driver import LineOutputs
from blemish.station.line.machine import LineError, LineLimits, PlcSignals
from blemish.station.line.plc import Plc, PlcLimits, StopReason
from blemish.station.line.s7 import OUTPUTS, SIGNALS, pack_outputs, pack_signals, unpack_outputs, unpack_signals
from blemish.station.line.transport import LineContext, plugin_kinds

LIMITS = LineLimits(heartbeat_s=1.0, answer_s=4.0)


def test_the_layout_of_the_data_block():
    """Against the words written by hand."""
    signals = PlcSignals(258, True, False, 7, 3, "A-17")
    data = pack_signals(signals)
    assert data == struct.pack(">HHHH", 258, 1, 7, 3) + b"A-17" + bytes(28)
    assert unpack_signals(data) == signals
    assert unpack_signals(pack_signals(PlcSignals(1, False, True))).reset
    own = LineOutputs(3, 1, 7, 0, 9)
    assert pack_outputs(own) == bytes([0, 3, 0, 1, 0, 7, 0, 0, 0, 9])
    assert unpack_outputs(pack_outputs(own)) == own


def test_the_plug_in_is_found(tmp_path):
    assert "s7" not in TRANSPORTS
    if not entry_points(group="blemish.line_transports"):
        pytest.skip("the package was installed before it had plug-ins; make setup installs it again")
    assert "s7" in plugin_kinds()
    assert type(make_transport("s7://127.0.0.1:102/0/1/100", LineContext(tmp_path))).__name__ == "S7Line"
    with pytest.raises(OptionError, match="RACK/SLOT/DB"):
        make_transport("s7://127.0.0.1:102/0/1", LineContext(tmp_path))


class DataBlockWire:
    """The program of a PLC: it works on its own memory."""

    def __init__(self, block):
        self._block = block

    def exchange(self, signals):
        self._block[: SIGNALS.size] = pack_signals(signals)
        return unpack_outputs(self._block[SIGNALS.size : SIGNALS.size + OUTPUTS.size])

    def close(self):
        pass


@contextmanager
def plc_memory():
    snap7 = pytest.importorskip("snap7", exc_type=ImportError)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    block = bytearray(SIGNALS.size + OUTPUTS.size)
    server = snap7.server.Server()
    server.register_area(snap7.type.SrvArea.DB, 100, block)
    server.start(tcp_port=port)
    try:
        yield port, block
    finally:
        server.stop()
        server.destroy()


def test_parts_over_s7(plant, tmp_path):
    from blemish.station.line.s7 import S7Line
    from blemish.station.line.transport import LineAddress

    with plc_memory() as (port, block):
        line = S7Line(LineAddress("s7", "127.0.0.1", port, ("0", "1", "100")), LineContext(tmp_path))
        line.open()
        plc = Plc(DataBlockWire(block), PlcLimits(watchdog_s=1.0, answer_s=5.0, ready_s=20.0))
        with plant.running(line, LIMITS):
            assert plc.inspect("good-1").verdict == Verdict.PASS
            assert plc.inspect("bad-2").verdict == Verdict.REJECT
            broken = plc.inspect("none-3")
            assert (broken.verdict, broken.reason, broken.error) == (None, StopReason.ERROR, LineError.NO_ANSWER)
            assert plc.inspect("good-4").verdict == Verdict.PASS
        line.close()
        assert unpack_outputs(block[SIGNALS.size :]).verdict == 0
        stopped = Plc(DataBlockWire(block), PlcLimits(watchdog_s=0.3, ready_s=0.5)).inspect("good-5")
        assert (stopped.verdict, stopped.reason) == (None, StopReason.NOT_READY)
    assert [part_id for _, part_id, _ in plant.recorded] == ["good-1", "bad-2", "good-4"]
