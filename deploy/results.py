"""Bringing results home: what is worth it of an experiment directory, and whether all of it has arrived."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import BadInput, Problem
from tuner.record.events import JOURNAL
from tuner.record.find import runs_below
from tuner.record.lock import LOCKS

FOLDERS = ("model",)
"""Besides the files at the top of a run's directory; Ray's own files, checkpoints and logs stay."""

BEGIN, DATA, END = "results begin ", "results data ", "results end"
LINE_BYTES = 48_000


class Incomplete(Exception):
    """Something did not arrive as it was sent."""


@dataclass(frozen=True)
class Results:
    """An archive (tar), and the SHA-256 of each file in it by its name."""

    manifest: dict[str, str]
    archive: bytes

    def lines(self) -> Iterator[str]:
        """As text, for a log that others write to as well."""
        yield BEGIN + json.dumps(self.manifest)
        for start in range(0, len(self.archive), LINE_BYTES):
            yield DATA + base64.b64encode(self.archive[start : start + LINE_BYTES]).decode()
        yield END

    @classmethod
    def from_lines(cls, text: str) -> Results:
        """Reads `lines` back. Raises Incomplete where they were cut off."""
        manifest: dict[str, str] | None = None
        content: list[bytes] = []
        for line in text.splitlines():
            if line.startswith(BEGIN):
                manifest, content = json.loads(line.removeprefix(BEGIN)), []
            elif line.startswith(DATA):
                content.append(base64.b64decode(line.removeprefix(DATA)))
            elif line == END and manifest is not None:
                return cls(manifest, b"".join(content))
        raise Incomplete("the results were cut off on their way")


def newest_run(directory: Path) -> Path | None:
    """The run of a job that has begun: `directory` is the job's own folder, runs are two levels below it."""
    runs = runs_below(directory, depth=2)
    return runs[-1] if runs else None


def files_of(run: Path) -> list[Path]:
    """What is worth the way."""
    files = [path for path in run.iterdir() if path.is_file() and path.name not in LOCKS]
    return sorted(files + [path for folder in FOLDERS for path in (run / folder).rglob("*") if path.is_file()])


def pack(run: Path) -> Results:
    """The results in a run's directory as they stand now; a search that is running may go on meanwhile."""
    manifest: dict[str, str] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in files_of(run):
            content, name = path.read_bytes(), path.relative_to(run).as_posix()
            manifest[name] = hashlib.sha256(content).hexdigest()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return Results(manifest, buffer.getvalue())


def unpack(results: Results, target: Path) -> None:
    """Puts the results into `target`, whole or not at all; what it held of an earlier copy is replaced.

    Raises:
        BadInput: where `target` holds something that is no copy of results.
        Incomplete: where a file is missing or is not what was sent.
    """
    if target.exists() and not (target / JOURNAL).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(Problem("--to", "a folder that is new, empty or an earlier copy", str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        fresh = Path(temporary) / "results"
        fresh.mkdir()
        try:
            with tarfile.open(fileobj=io.BytesIO(results.archive)) as archive:
                archive.extractall(fresh, filter="data")
        except tarfile.TarError as error:
            raise Incomplete(f"the archive cannot be read: {error}") from None
        _verify(fresh, results.manifest)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)


def _verify(folder: Path, manifest: dict[str, str]) -> None:
    for name, sha256 in manifest.items():
        path = folder / name
        if not path.is_file():
            raise Incomplete(f"{name} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise Incomplete(f"{name} is not what was sent")
