import importlib
import logging
import socket

import pytest

from blemish.errors import OptionError
from blemish.inspection.distributed.connect import LOCAL, connected


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "localhost:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_at_which_nothing_listens_is_said_at_once(address):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    named = address.format(port=port)
    with pytest.raises(OptionError, match=f"no Ray cluster can be used at {named}.*refused"), connected(named):
        pass


def test_only_ray_s_own_handler_is_silenced(monkeypatch):
    ray = pytest.importorskip("ray")
    importlib.import_module("ray.data")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    own, console = logging.StreamHandler(), logging.StreamHandler()
    console.set_name("console")
    logger = logging.getLogger("ray.data")
    monkeypatch.setattr(logger, "handlers", [own, console])
    with connected(LOCAL):
        pass
    assert own.level == logging.NOTSET
    assert console.level > logging.CRITICAL
