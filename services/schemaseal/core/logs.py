"""Logging of every process: one line of JSON per record on standard error, nothing a client sent in it.

The redaction filter is the last line, not the first: no code logs payload, headers, tokens or names. It
replaces what still looks like a credential, and it never prints the arguments of an exception from the
data path, only its type and where it happened.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime

_CREDENTIAL = re.compile(
    r"(?:eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4})|(?:\b(?i:Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,})"
)
_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|[\"'](?:d|k)[\"'] *: *[\"'][A-Za-z0-9_-]{8,}[\"']"
)
_DIGITS = re.compile(r"\d(?:[ -]?\d){11,18}")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,255}")
_SSN = re.compile(r"\d{3}-\d{2}-\d{4}")


def redact(text: str) -> str:
    """The text without anything that looks like a token, private key, card number, SSN or e-mail address."""
    for pattern in (_KEY, _CREDENTIAL, _SSN, _EMAIL, _DIGITS):
        text = pattern.sub("[redacted]", text)
    return text


def _text(record: logging.LogRecord) -> str:
    try:
        return redact(record.getMessage())
    except (TypeError, ValueError, KeyError):
        # Left to `logging`, this would print the arguments as they are.
        return f"[unformattable] {redact(str(record.msg))}"


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and for failures the type and the frames, never the values."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "text": _text(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            entry["error"] = type(error).__name__
            entry["frames"] = [
                f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)[-12:]
            ]
        return json.dumps(entry, ensure_ascii=False)


def configure(service: str, level: int = logging.INFO) -> logging.Logger:
    """Send everything that any library logs through the redacting formatter; returns the service's logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "aiokafka", "faust", "mode", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _excepthook(service)
    return logging.getLogger(f"schemaseal.{service}")


def _excepthook(service: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - signature of sys.excepthook
    def hook(kind, error, trace):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if issubclass(kind, KeyboardInterrupt):
            return
        logging.getLogger(f"schemaseal.{service}").critical("stopped", exc_info=(kind, error, trace))

    return hook
