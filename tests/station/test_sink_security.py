"""MQTT over TLS against a broker that is started here, and signed webhooks."""

import datetime
import hashlib
import hmac
import ipaddress
import json
import shutil
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from station_helpers import free_port, wait_until

from blemish.errors import OptionError
from blemish.station.schemas import InspectionOut, RecipeRef
from blemish.station.sinks import check_sink, open_sink
from blemish.station.webhook_signature import verify

KEY = b"a key of more than sixteen characters"


def result(number=1):
    return InspectionOut(
        id=number, record="4f0c", part_id="p", lot=None, station="s", origin="api", error=None, verdict="pass",
        label="good", created_at=datetime.datetime.now(datetime.UTC), image_sha256="0" * 64, score=0.1,
        class_scores=None, reasons=[], timings_ms={}, size=(8, 8), regions=[],
        recipe=RecipeRef(id=1, name="r", version=1), image_stored=False,
        reviews=[],
    )  # fmt: skip


def make_certificate(folder, name):
    """A self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(hosts, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    return folder / f"{name}.pem", folder / f"{name}.key"


@contextmanager
def tls_broker(folder, port, certificate, key):
    """Debian's mosquitto, with a password for the user `line`."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
    maker = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if program is None or maker is None:
        pytest.skip("no mosquitto: apt install mosquitto; MQTT over TLS is not tested")
    subprocess.run([maker, "-c", "-b", str(folder / "users"), "line", "geheim"], check=True, capture_output=True)
    for path in (folder / "users", key):
        path.chmod(0o644)
    folder.chmod(0o755)
    (folder / "broker.conf").write_text(
        f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\nallow_anonymous false\n"
        f"password_file {folder / 'users'}\nuser root\n"
    )
    process = subprocess.Popen([program, "-c", str(folder / "broker.conf")], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tls_subscriber(port, certificate):
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client, found, ready = Client(CallbackAPIVersion.VERSION2), [], threading.Event()
    client.username_pw_set("line", "geheim")
    client.tls_set(str(certificate))
    client.on_message = lambda _c, _u, message: found.append(json.loads(message.payload)["id"])
    client.on_connect = lambda *_: client.subscribe("line/results", qos=1)
    client.on_subscribe = lambda *_: ready.set()

    def connects():
        try:
            client.connect("127.0.0.1", port)
        except ConnectionRefusedError:
            return False
        return True

    wait_until(connects)
    client.loop_start()
    assert ready.wait(20)
    try:
        yield found
    finally:
        client.disconnect()
        client.loop_stop()


def test_mqtt_over_tls(tmp_path):
    certificate, key = make_certificate(tmp_path, "broker")
    stranger, _ = make_certificate(tmp_path, "stranger")
    (tmp_path / "password").write_text("geheim\n")
    (tmp_path / "wrong").write_text("nothing\n")
    port = free_port()
    sink = f"mqtts://line@127.0.0.1:{port}/line/results#ca={certificate}&password={tmp_path / 'password'}"
    check_sink(sink)
    with tls_broker(tmp_path, port, certificate, key), tls_subscriber(port, certificate) as found:
        with open_sink(sink) as deliver:
            deliver(result(1))
            deliver(result(2))
        wait_until(lambda: found == [1, 2])
        with pytest.raises(ssl.SSLError), open_sink(sink.replace("broker.pem", "stranger.pem")):
            pass
        with pytest.raises((TimeoutError, RuntimeError)), open_sink(sink.replace("/password", "/wrong")) as deliver:
            deliver(result(3))  # a broker that refuses the user acknowledges nothing
        assert found == [1, 2]
    assert stranger.exists()


@contextmanager
def receiver():
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])), self.path))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_signed_webhook(tmp_path):
    (tmp_path / "hook.key").write_bytes(KEY + b"\n")
    with receiver() as (port, requests):
        sink = f"http://127.0.0.1:{port}/in?x=1#key={tmp_path / 'hook.key'}"
        check_sink(sink)
        with open_sink(sink) as deliver:
            deliver(result(7))
        with open_sink(f"http://127.0.0.1:{port}/in") as deliver:
            deliver(result(8))
    headers, body, path = requests[0]
    assert path == "/in?x=1"
    assert json.loads(body)["id"] == 7
    time_of_sending, signature = headers["Blemish-Timestamp"], headers["Blemish-Signature"]
    assert abs(int(time_of_sending) - time.time()) < 60
    assert signature == "sha256=" + hmac.digest(KEY, time_of_sending.encode() + b"." + body, hashlib.sha256).hex()
    assert headers["Idempotency-Key"] == "4f0c-7"
    assert "Blemish-Signature" not in requests[1][0]


def test_verification_refuses_what_is_old_changed_or_signed_by_others():
    body, now = b'{"id": 7}', 1_700_000_000
    signature = "sha256=" + hmac.digest(KEY, b"1700000000." + body, hashlib.sha256).hex()
    assert verify(KEY, "1700000000", signature, body, now + 299)
    assert not verify(KEY, "1700000000", signature, body, now + 301)  # repeated later
    assert not verify(KEY, "1700000001", signature, body, now)
    assert not verify(KEY, "1700000000", signature, body + b" ", now)
    assert not verify(b"another key of many characters", "1700000000", signature, body, now)
    assert not verify(KEY, "soon", signature, body, now)
    assert not verify(KEY, "1700000000", "sha256=é", body, now)


def test_files_of_a_sink_are_checked(tmp_path):
    (tmp_path / "short").write_text("abc")
    for text, message in (
        (f"https://host/in#key={tmp_path / 'gone'}", "does not exist"),
        (f"https://host/in#key={tmp_path / 'short'}", "fewer than 16"),
        (f"mqtts://host/t#authority={tmp_path / 'short'}", "unknown file 'authority'"),
        ("mqtts://host/t#secret", "#NAME=FILE"),
        (f"mqtt://host/t#ca={tmp_path / 'short'}", "unknown file 'ca'"),
    ):
        with pytest.raises(OptionError, match=message):
            check_sink(text)
