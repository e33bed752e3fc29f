"""Redaction of secrets in messages, logs and records. Only the code that connects to a URI has it with its password.

A secret is known by its name (`AccountKey=…`, `"token": "…"`, `?sig=…`), by its form (`hf_…`, a private key) or by its
value, that of an environment variable whose name says that it holds one.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import traceback
from typing import Any
from urllib.parse import quote

# Up to the last @: a password may hold one, or a quote. Paths of sqlite and file URIs may hold an @ of their own.
CREDENTIALS = re.compile(r"(?<!sqlite\+)\b(?!sqlite|file)([a-zA-Z][\w+.-]*://)\S*@")

WORDS = r"password|passwd|passphrase|pwd|token|secret|signature|credentials?|api[_-]?key"
KEYS = r"(?:access|account|encryption|private|secret|shared|signing|storage|subscription)[_-]?(?:access[_-]?)?key"

# Without punctuation of the surrounding text that may follow the URI.
QUERY_VALUE = re.compile(
    rf"([?&](?:[^=&\s]*(?:{WORDS}|{KEYS}|odbc_connect)[^=&\s]*|sig|key|code|auth)=)[^&\s]*[^&\s'\",.;:)\]}}]",
    re.IGNORECASE,
)
NAMED_VALUE = re.compile(
    rf"((?<![\w?&])[\w.-]{{0,60}}?(?:{WORDS}|{KEYS}|sharedaccesssignature|authorization|cookie)"
    r"""(?:\\*["'])?[ \t]*[=:][ \t]*)"""
    r"""(?:(\\*["'])(?!\2).*?\2"""
    r"""|(?:(?:Bearer|Basic|Digest|Token)\s+)?(?!expected\b)(?:[^\s'",;&)\]}]|['",](?=\w))+)""",
    re.IGNORECASE,
)
"""A pair of a name and its value, as in connection strings, headers, JSON, YAML and shells."""
BEARER = re.compile(r"\b(Bearer|Token)\s+(?=[\w~+/-]*[\d.=])[\w.~+/-]{8,}=*", re.IGNORECASE)
BASIC = re.compile(r"\b(Basic)\s+([\w+/-]{6,}={0,2})", re.IGNORECASE)

KNOWN_FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # a JSON Web Token
    r"|\b(?:hf_|gh[opsur]_|github_pat_|glpat-|npm_|pypi-|dckr_pat_|sk-|dapi|xox[abeoprs]-|ya29\.|AIza)[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    re.DOTALL,
)
"""Secrets that their issuers made recognisable: of Hugging Face, GitHub, GitLab, npm, PyPI, Docker, Databricks, Slack,
Google, AWS."""

SECRET_VARIABLE = re.compile(
    rf".*(?:PASSWORD|PASSWD|PASSPHRASE).*|.+_PWD"
    rf"|(?:.*_)?(?:TOKEN|SECRET|SAS|API_?KEY|{KEYS}|CONNECTION_?STRING)(?:_.*)?"
    r"|(?:MLFLOW|AWS|AZURE|GOOGLE|HF|DATABRICKS|RAY)_.*(?:PASSWORD|TOKEN|SECRET|KEY).*",
    re.IGNORECASE,
)
"""Environment variables whose values are secrets."""
NO_SECRET_VARIABLE = re.compile(r".*_(?:FILE|PATH|DIR|URL|URI|EXPIR\w*)", re.IGNORECASE)
MIN_SECRET_CHARACTERS = 6
"""A shorter value would be found in harmless text."""

HIDDEN = "…"


def without_credentials(text: str) -> str:
    """Returns `text` without the secrets in it: `user:password@` and secret query values of URIs, values of names such
    as `AccountKey` or `token`, authorization headers, tokens of a known form, and the values of secret environment
    variables.

    >>> without_credentials("no answer from http://robot:hunter2@host:5000")
    'no answer from http://host:5000'
    >>> without_credentials('401 for {"Authorization": "Bearer abc12345"}')
    '401 for {"Authorization": "…"}'
    """
    for secret in _secrets_of_the_environment():
        text = text.replace(secret, HIDDEN)
    text = KNOWN_FORMS.sub(HIDDEN, CREDENTIALS.sub(r"\1", text))
    text = NAMED_VALUE.sub(_without_value, QUERY_VALUE.sub(rf"\1{HIDDEN}", text))
    return BASIC.sub(_without_basic, BEARER.sub(rf"\1 {HIDDEN}", text))


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


def _without_value(pair: re.Match[str]) -> str:
    """Hides the value of a pair; its quotes stay, so that JSON and YAML can still be read."""
    name, quotes = pair.groups(default="")
    return f"{name}{quotes}{HIDDEN}{quotes}"


def _without_basic(header: re.Match[str]) -> str:
    """Hides credentials of the form `user:password` in base64, of which any word may be made."""
    scheme, value = header.groups()
    try:
        is_pair = b":" in base64.b64decode(value, validate=True)
    except binascii.Error:
        is_pair = False
    return f"{scheme} {HIDDEN}" if is_pair else header[0]


def _secrets_of_the_environment() -> list[str]:
    """Values of the secret variables, and as a URI has them; longest first: one may be a part of another."""
    values = {value for name, value in os.environ.items() if _is_secret(name, value)}
    return sorted(values | {quote(value, safe="") for value in values}, key=len, reverse=True)


def _is_secret(name: str, value: str) -> bool:
    if len(value) < MIN_SECRET_CHARACTERS or not SECRET_VARIABLE.fullmatch(name):
        return False
    return not NO_SECRET_VARIABLE.fullmatch(name) and not (os.path.isabs(value) and os.path.exists(value))
