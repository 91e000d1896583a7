"""One place that takes secrets out of text, for logs, the record, metrics and pages."""

import logging
import re

HIDDEN = "***"
_RULES = (
    (re.compile(r"(?<=://)[^/\s]*@"), ""),  # user and password of an address
    (re.compile(r"([?&;][^=&;#\s]*=)[^&;#\s'\"]*"), rf"\1{HIDDEN}"),  # values of a query may be keys and signatures
    (re.compile(r"(?i)\b(password|passwd|pwd|secret|token|api[_-]?key)(['\"]?\s*[:=]\s*)['\"]?[^\s'\",;&]+"),
     rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bblm_[\w-]{8,}"), f"blm_{HIDDEN}"),
)  # fmt: skip


def redact(text: str) -> str:
    """The text without passwords, tokens, and the values of queries in addresses."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class RedactingFilter(logging.Filter):
    """Takes secrets out of log messages and their tracebacks; add it to handlers."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        record.exc_text = redact(record.exc_text) if record.exc_text else record.exc_text
        return True
