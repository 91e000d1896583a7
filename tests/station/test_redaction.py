"""Secrets do not leave the station."""

import io
import logging

import pytest

from blemish.station.redaction import RedactingFilter, redact


@pytest.mark.parametrize(
    "text",
    [
        "mqtt://line:geheim@host:1883/results",
        "rtsp://admin:ge@heim@10.0.0.5/stream",
        "https://host/hook?signature=geheim&x=1",
        "Authorization: Bearer geheim-geheim",
        "connection failed: password=geheim host=db",
        'password: "geheim"',
        "blm_geheim-geheim-geheim was refused",
    ],
)
def test_secrets_are_taken_out_of_text(text: str) -> None:
    assert "heim" not in redact(text)


def test_other_text_stays() -> None:
    for text in ("token required: no header", "http://host:8080/hook", "a@b", "part p-1 failed: 12 = 12", "C:\\\\x"):
        assert redact(text) == text


def test_log_messages_and_tracebacks_hold_no_secrets() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise OSError("http://u:geheim@host/ is away")
    except OSError:
        log.exception("sink %s", "mqtt://u:geheim@host")
    assert "geheim" not in stream.getvalue()
    assert "is away" in stream.getvalue()
