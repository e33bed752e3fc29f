"""Taking secrets out of what is shown or kept. A tracking URI may hold a password; whoever uses it keeps it whole."""

from __future__ import annotations

import re

# Up to the last @: a password may hold one, or a quote. Paths of sqlite and file URIs may hold an @ of their own.
CREDENTIALS = re.compile(r"(?<!sqlite\+)\b(?!sqlite|file)([a-zA-Z][\w+.-]*://)\S*@")
# Without the punctuation that the text around it may have put behind the URI.
SECRET_VALUE = re.compile(
    r"([?&][^=&\s]*(?:password|passwd|pwd|token|secret|api_?key|odbc_connect)[^=&\s]*=)[^&\s]*[^&\s'\",.;:)\]}]",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """`text` with `user:password@` and secret query values taken out of every URI in it."""
    return SECRET_VALUE.sub(r"\1…", CREDENTIALS.sub(r"\1", text))


def reason(error: BaseException) -> str:
    """The first line of what went wrong, fit to be shown."""
    lines = [line for line in without_credentials(str(error)).splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__
