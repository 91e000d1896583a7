"""A self-contained HTML page as PDF, by WeasyPrint."""

from blemish.errors import MissingExtraError


def html_to_pdf(html: str) -> bytes:
    """The PDF of a page; nothing is fetched from elsewhere. Raises MissingExtraError without WeasyPrint or Pango."""
    try:
        import weasyprint
        from weasyprint.urls import URLFetcher
    except ModuleNotFoundError as error:
        raise MissingExtraError("WeasyPrint is not installed; pip install 'blemish[pdf]'") from error
    except OSError as error:  # of a shared library
        raise MissingExtraError("Pango is not installed (Debian: apt-get install libpango-1.0-0)") from error
    embedded_only = URLFetcher(allowed_protocols={"data"})
    return bytes(weasyprint.HTML(string=html, url_fetcher=embedded_only).write_pdf())
