"""Redaction of secrets in messages, logs and records. Only the code that connects to a URI has it with its password."""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

# Up to the last @: a password may hold one, or a quote. Paths of sqlite and file URIs may hold an @ of their own.
CREDENTIALS = re.compile(r"(?<!sqlite\+)\b(?!sqlite|file)([a-zA-Z][\w+.-]*://)\S*@")
# Without punctuation of the surrounding text that may follow the URI.
SECRET_VALUE = re.compile(
    r"([?&][^=&\s]*(?:password|passwd|pwd|token|secret|api_?key|odbc_connect)[^=&\s]*=)[^&\s]*[^&\s'\",.;:)\]}]",
    re.IGNORECASE,
)
SECRET_VARIABLE = re.compile(
    r"(MLFLOW|AWS|AZURE|GOOGLE|HF|DATABRICKS|RAY)_.*(PASSWORD|TOKEN|SECRET|KEY)", re.IGNORECASE
)
"""Environment variables whose values are secrets, of the services that a search may talk to."""
MIN_SECRET_CHARACTERS = 6
"""A shorter value would be found in harmless text."""


def without_credentials(text: str) -> str:
    """Returns `text` without `user:password@` and secret query values in its URIs, and without the values of secret
    environment variables.

    >>> without_credentials("no answer from http://robot:hunter2@host:5000")
    'no answer from http://host:5000'
    """
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, "…")
    return SECRET_VALUE.sub(r"\1…", CREDENTIALS.sub(r"\1", text))


def reason(error: BaseException) -> str:
    """Returns the first line of an error's message, redacted, at most 300 characters; its class where it has none."""
    lines = [line for line in without_credentials(str(error)).splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__


def redact_logging() -> None:
    """Redacts all log records of this process from now on, tracebacks included."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            record.msg, record.args = without_credentials(record.getMessage()), ()
        except Exception:  # arguments that do not fit the message: logging says so itself
            return record
        if record.exc_info and record.exc_info[1] is not None:
            story = "".join(traceback.format_exception(record.exc_info[1]))
            record.exc_text = without_credentials(story).rstrip("\n")  # what formatters show in place of `exc_info`
        return record

    redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)


def _secrets_of_the_environment() -> list[str]:
    """Longest first: one may be a part of another."""
    values = {value for name, value in os.environ.items() if SECRET_VARIABLE.fullmatch(name)}
    return sorted((value for value in values if len(value) >= MIN_SECRET_CHARACTERS), key=len, reverse=True)
