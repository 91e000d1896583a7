"""Weights from the hub, through the hub's own client, against a small server on this machine."""

import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file

from blemish.methods.common.backbones import load_network

NAME = "lcnet_050"
LOAD = f"""
import sys, torch
from blemish.errors import OptionError
from blemish.methods.common.backbones import load_network
try:
    state = load_network("{NAME}", weights="imagenet").state_dict()
except OptionError as error:
    print("ERROR", error)
else:
    print("SUM", float(sum(value.double().sum() for value in state.values())))
"""


@pytest.fixture
def hub(tmp_path):
    """A hub that has the weights of one network, and nothing else."""
    torch.manual_seed(5)
    state = load_network(NAME, weights="random").state_dict()
    save_file(state, tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            if not self.path.endswith("/resolve/main/model.safetensors"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", float(sum(v.double().sum() for v in state.values()))
    server.shutdown()


def load(endpoint, cache, **more):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **more}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD], env=environment, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def test_weights_come_from_the_hub_and_then_from_its_cache(hub, tmp_path):
    endpoint, expected = hub
    word, value = load(endpoint, tmp_path / "cache").split()
    assert word == "SUM"
    assert float(value) == pytest.approx(expected, rel=1e-9)
    offline = load("http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert float(offline.split()[1]) == pytest.approx(expected, rel=1e-9)


def test_without_the_hub_it_says_what_to_do(tmp_path):
    line = load("http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert line.startswith("ERROR the ImageNet weights")
    assert "--set weights=FILE" in line
