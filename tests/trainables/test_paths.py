from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from trainables.paths import PossiblePath, why_not_writable

ADAPTER: TypeAdapter[Path] = TypeAdapter(PossiblePath)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~nobody9/photos", "a path below the home folder of a user that exists, got '~nobody9/photos'"),
        ("a\0b", "a path of characters that names of files may have"),
        ("a\ud800b", "a path of characters that names of files may have"),
        ("x" * 300, "a path whose names are at most 255 bytes long"),
    ],
)
def test_a_path_that_cannot_be_is_refused(path: str, expected: str) -> None:
    with pytest.raises(ValidationError, match="Value error") as refused:
        ADAPTER.validate_python(path)
    assert expected in str(refused.value)


@pytest.mark.parametrize("path", ["photos", "/nowhere/photos", "~/photos", "", "/dev/null/x"])
def test_a_path_that_is_only_not_there_is_kept(path: str) -> None:
    assert ADAPTER.validate_python(path) == Path(path)


def test_what_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) == why_not_writable(tmp_path / "new" / "er") == ""
    assert list(tmp_path.iterdir()) == []
    assert why_not_writable(Path("/dev/null")) == "not a directory"
    assert why_not_writable(Path("/dev/null/x")) == "/dev/null: not a directory"
    assert why_not_writable(Path("/proc/none/deeper")).startswith("/proc: ")
