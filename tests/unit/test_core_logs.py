"""Logs: one JSON line a record, no credential in it, and of a failure only where it happened."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from schemaseal.core import logs
from schemaseal.core.logs import JsonFormatter, redact


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


JWT = f"{part({'alg': 'ES256', 'typ': 'at+jwt'})}.{part({'sub': 'alice', 'iss': 'i'})}.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
JWE = f"{part({'alg': 'dir', 'enc': 'A256GCM'})}..aXYtaXYtaXYtaXY.Y2lwaGVydGV4dA.dGFnLXRhZy10YWctdGFn"
OPAQUE = "9f8e7d6c-opaque_token.value~x"
PEM = (
    Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)


@pytest.fixture
def line() -> Iterator[Any]:
    """A function that logs and returns the line as written, decoded."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("ingress"))
    logger = logging.getLogger("test.logs")
    logger.propagate = False
    logger.addHandler(handler)

    def written(message: str, *args: object, **more: Any) -> dict[str, Any]:
        stream.seek(0)
        stream.truncate()
        logger.error(message, *args, **more)
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert text.endswith("\n")
        value = json.loads(text)
        assert isinstance(value, dict)
        return value

    yield written
    logger.removeHandler(handler)


# ---------------------------------------------------------------- what is taken out


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"refused {JWT} at once", JWT),
        (f"refused '{JWT}'", JWT.split(".")[1]),
        (f"cut {JWT.rsplit('.', 1)[0]}", JWT.split(".")[1]),
        (f"opened {JWE}", JWE.split(".")[3]),
        (f"Authorization: Bearer {OPAQUE}", OPAQUE),
        (f"authorization: bearer {OPAQUE}", OPAQUE),
        (f"AUTHORIZATION: BEARER  {OPAQUE}", OPAQUE),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        (f"key\n{PEM}end", PEM.splitlines()[1]),
        (f"key cut {PEM[:70]}", PEM.splitlines()[1][:20]),
        (json.dumps(OKPKey.import_key(PEM).as_dict(private=True)), "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"),
        (str(OKPKey.import_key(PEM).as_dict(private=True)), "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"),
        ("alice@corp.example voted", "alice"),
        ("card 4111 1111 1111 1111.", "1111"),
        ("card 4111-1111-1111-1111.", "4111"),
        ("card 378282246310005.", "378282246310005"),
        ("ssn 078-05-1120.", "05-1120"),
    ],
)
def test_secrets_are_taken_out_of_text(text: str, secret: str) -> None:
    assert secret in text
    redacted = redact(text)
    assert "[redacted]" in redacted
    assert secret not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "stored 8192 rows up to index 123456789",
        "offset 42 of changes.status/3",
        "release 2f1c took 0.15 s",
        "2026-11-23T09:00:00.123Z",
        "issuer https://issuer.example does not answer",
    ],
)
def test_what_operators_need_stays(text: str) -> None:
    assert redact(text) == text


def test_the_words_around_a_secret_stay() -> None:
    assert redact(f"refused {JWT} at once") == "refused [redacted] at once"
    assert redact(f"key\n{PEM}end") == "key\n[redacted]\nend"


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_token_is_taken_out_wherever_it_stands(before: str, after: str) -> None:
    assert JWT.split(".")[1] not in redact(before + " " + JWT + " " + after)


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


# ---------------------------------------------------------------- records


def test_a_record_is_one_line_of_json(line: Any) -> None:
    entry = line("first\nsecond \u2028 %s", 7)
    assert entry["text"] == "first\nsecond \u2028 7"
    assert (entry["level"], entry["service"], entry["logger"]) == ("error", "ingress", "test.logs")
    assert entry["at"].endswith("+00:00")
    assert "error" not in entry


def test_arguments_are_redacted(line: Any) -> None:
    for args in ((JWT,), ({"token": JWT},), (ValueError(f"bad {JWT}"),)):
        assert JWT.split(".")[1] not in json.dumps(line("got %s", *args))


def test_a_failure_is_its_type_and_its_frames(line: Any) -> None:
    def failing(token: str) -> None:
        raise ValueError(f"cannot use {token} of alice@corp.example with payload card-number")

    try:
        failing(JWT)
    except ValueError:
        entry = line("it failed", exc_info=True)
    assert entry["error"] == "ValueError"
    assert [frame.split(" ")[-1] for frame in entry["frames"]][-1] == "failing"
    assert all(frame.startswith("test_core_logs.py:") for frame in entry["frames"])
    text = json.dumps(entry)
    assert JWT not in text
    assert "card-number" not in text
    assert "alice" not in text


def test_causes_do_not_leak_either(line: Any) -> None:
    try:
        try:
            raise KeyError(JWT)
        except KeyError as cause:
            raise RuntimeError(OPAQUE) from cause
    except RuntimeError:
        text = json.dumps(line("it failed", exc_info=True))
    assert JWT not in text
    assert OPAQUE not in text


def test_deep_failures_keep_the_innermost_frames(line: Any) -> None:
    def deeper(levels: int) -> None:
        if not levels:
            raise LookupError
        deeper(levels - 1)

    try:
        deeper(40)
    except LookupError:
        assert len(line("deep", exc_info=True)["frames"]) == 12


def test_arguments_that_do_not_fit_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`logging` itself would answer with a traceback and the arguments on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("ingress"))
    handler.handle(logging.LogRecord("test.logs", logging.ERROR, "p", 1, "%d items of %s", (JWT,), None))
    (entry,) = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert entry["text"] == "[unformattable] %d items of %s"


def test_exc_info_without_an_exception(line: Any) -> None:
    assert "error" not in line("nothing failed", exc_info=True)


# ---------------------------------------------------------------- the process


@pytest.fixture
def _root() -> Iterator[None]:
    """Logging and the hook as they were before, afterwards."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook


@pytest.mark.usefixtures("_root")
def test_every_library_logs_through_the_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    service = logs.configure("ingress")
    assert service.name == "schemaseal.ingress"
    logging.getLogger("some.library").warning("sent Authorization: Bearer %s", OPAQUE)
    logging.getLogger("httpx").info("GET /?access_token=%s", OPAQUE)
    service.debug("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    (entry,) = [json.loads(text) for text in captured.err.splitlines()]
    assert entry["text"] == "sent Authorization: [redacted]"
    assert (entry["service"], entry["logger"]) == ("ingress", "some.library")


@pytest.mark.usefixtures("_root")
def test_configuring_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("ingress")
    logs.configure("ingress").error("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("_root")
def test_what_ends_the_process_is_logged_without_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("ingress")
    error = RuntimeError(f"stopped by {JWT}")
    sys.excepthook(RuntimeError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    (entry,) = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    assert (entry["level"], entry["error"], entry["frames"]) == ("critical", "RuntimeError", [])
    assert "eyJ" not in json.dumps(entry)
