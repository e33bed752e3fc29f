"""Paths of files and folders in a configuration: refused where no file can be there."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from trainables.errors import os_reason


def _possible(path: Path) -> Path:
    """Returns `path` if the operating system can have such a file. Raises ValueError."""
    try:
        os.lstat(path.expanduser())
    except RuntimeError:  # of expanduser
        raise ValueError(f"a path below the home folder of a user that exists, got {str(path)!r}") from None
    except ValueError:
        raise ValueError(f"a path of characters that names of files may have, got {str(path)!r}") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"a path whose names are at most 255 bytes long, got {str(path)!r}") from None
    return path


POSSIBLE = AfterValidator(_possible)
PossiblePath = Annotated[Path, POSSIBLE]
"""Path of a file or folder that may or may not be there, below an existing user's home folder where it begins with `~`.
"""


def why_not_writable(path: Path) -> str:
    """Returns why no file or folder can be made at or below `path`, which need not be there yet; "" if it can.

    Files are made for a moment, since permissions do not tell: of the file systems in memory, some take none from
    anyone.
    """
    existing = next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except (OSError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        return reason if existing == path else f"{existing}: {reason}"
