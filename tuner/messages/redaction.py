"""Taking secrets out of what is shown or kept. A tracking URI may hold a password; whoever uses it keeps it whole."""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any

# Up to the last @: a password may hold one, or a quote. Paths of sqlite and file URIs may hold an @ of their own.
CREDENTIALS = re.compile(r"(?<!sqlite\+)\b(?!sqlite|file)([a-zA-Z][\w+.-]*://)\S*@")
# Without the punctuation that the text around it may have put behind the URI.
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
    """`text` with `user:password@` and secret query values taken out of every URI in it, and the values of secret
    environment variables wherever they stand."""
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, "…")
    return SECRET_VALUE.sub(r"\1…", CREDENTIALS.sub(r"\1", text))


def reason(error: BaseException) -> str:
    """The first line of what went wrong, fit to be shown."""
    lines = [line for line in without_credentials(str(error)).splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__


def redact_logging() -> None:
    """From now on no log record of this process, whoever writes it, holds credentials; its traceback neither."""
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
