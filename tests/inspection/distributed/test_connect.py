import socket

import pytest

from blemish.errors import OptionError
from blemish.inspection.distributed.connect import connected


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "localhost:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_at_which_nothing_listens_is_said_at_once(address):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    named = address.format(port=port)
    with pytest.raises(OptionError, match=f"no Ray cluster can be used at {named}.*refused"), connected(named):
        pass
