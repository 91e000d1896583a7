"""A self-contained HTML page as PDF, by WeasyPrint. As a program: the page from standard input to standard output."""

import logging
import os
import subprocess
import sys
from typing import Any

from blemish.errors import BlemishError, MissingExtraError

log = logging.getLogger(__name__)
NICE = 10  # priority of the process below that of the program that asks


def html_to_pdf(html: str) -> bytes:
    """The PDF of a page; nothing is fetched from elsewhere. Raises MissingExtraError without WeasyPrint or Pango."""
    weasyprint = check_pdf()
    from weasyprint.urls import URLFetcher

    embedded_only = URLFetcher(allowed_protocols={"data"})
    return bytes(weasyprint.HTML(string=html, url_fetcher=embedded_only).write_pdf())


def check_pdf() -> Any:
    """WeasyPrint; raises MissingExtraError where it or Pango is not installed."""
    try:
        import weasyprint
    except ModuleNotFoundError as error:
        raise MissingExtraError("WeasyPrint is not installed; pip install 'blemish[pdf]'") from error
    except OSError as error:  # of a shared library
        raise MissingExtraError("Pango is not installed (Debian: apt-get install libpango-1.0-0)") from error
    return weasyprint


def html_to_pdf_elsewhere(html: str, time_limit_s: float = 120.0) -> bytes:
    """The same in a process of its own and of low priority, for programs that have better things to do.

    Raises BlemishError where that process fails or takes too long.
    """
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(command, input=html.encode(), capture_output=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BlemishError(f"the PDF was not ready within {time_limit_s:.0f} s") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BlemishError(f"the PDF could not be made: {lines[-1] if lines else f'exit status {done.returncode}'}")
    if done.stderr:  # of glyphs that no font has, for one
        log.warning("PDF: %s", done.stderr.decode("utf-8", "replace").strip())
    return done.stdout


def _main() -> None:
    if hasattr(os, "nice"):
        os.nice(NICE)
    try:
        content = html_to_pdf(sys.stdin.buffer.read().decode())
    except BlemishError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.buffer.write(content)


if __name__ == "__main__":
    _main()
