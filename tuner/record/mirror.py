"""A copy of the experiment directory in an object store, so that another machine can go on with a search.

    s3://bucket/prefix/<name>/<run>/        as in the experiments folder, without its locks and Ray's and log files

The directory stays where the search works, as only a file system has locks and appends. In the background everything
that has changed is copied, object by object, each whole. The journal is read first and written after all that it may
speak of, so that whenever a machine is lost, the copy is that of a search that was cut off a few seconds before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from pyarrow import fs

from trainables.errors import BadInput, Problem
from trainables.files import write_whole
from tuner.messages.redaction import reason
from tuner.record.background import BackgroundSync
from tuner.record.directory import JOURNAL, NOT_MIRRORED, RunDirectory
from tuner.record.lock import locked

PERIOD_S = 5.0
"""How often the directory is looked through; a machine that is lost takes so much with it that was finished."""
FLUSH_TIMEOUT_S = 60.0
"""How long the end of a session waits for the copy to be in line."""

Version = tuple[int, int]


@dataclass(frozen=True)
class Mirror:
    """A place for copies of experiment directories. Methods raise OSError where it does not answer."""

    uri: str
    filesystem: fs.FileSystem
    root: str

    @classmethod
    def of(cls, uri: str) -> Self:
        """The place of that URI. S3's endpoint, region and credentials are those of the environment: AWS_ENDPOINT_URL,
        AWS_REGION, keys or an instance's role. Raises BadInput for what is no such place."""
        with _refused(uri, "a place that pyarrow knows, as s3://bucket/prefix"):
            return cls(uri, *fs.FileSystem.from_uri(uri))

    @classmethod
    def open(cls, uri: str) -> Self:
        """The same, once something could be written there. Raises BadInput where nothing can be."""
        mirror = cls.of(uri)
        with _refused(uri, "a place that can be written"):
            mirror.put(".probe", b"")
            mirror.filesystem.delete_file(f"{mirror.root}/.probe")
        return mirror

    def names(self) -> list[str]:
        """Of the experiments that have a copy here. Raises BadInput where that cannot be read."""
        return self._folders(self.root)

    def newest_run(self, name: str) -> str | None:
        """The run of that name that began last; None where there is none. Raises BadInput where that cannot be read."""
        runs = sorted(self._folders(f"{self.root}/{name}"), reverse=True)
        with _refused(self.uri, "a place that can be read"):
            return next((run for run in runs if JOURNAL in self.files(f"{name}/{run}")), None)

    def _folders(self, folder: str) -> list[str]:
        with _refused(self.uri, "a place that can be read"):
            infos = self.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
            return [info.base_name for info in infos if info.type == fs.FileType.Directory]

    def files(self, run: str) -> list[str]:
        """The files of `name/run`, in the order in which they are to be written."""
        folder = f"{self.root}/{run}"
        infos = self.filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        names = (info.path.removeprefix(f"{folder}/") for info in infos if info.type == fs.FileType.File)
        return sorted((name for name in names if ".." not in PurePosixPath(name).parts), key=_turn)

    def get(self, name: str) -> bytes:
        """A file's content; nothing where there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.root}/{name}", compression=None) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return b""

    def put(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all where it is an object."""
        path = f"{self.root}/{name}"
        if self.filesystem.type_name == "local":
            self.filesystem.create_dir(os.path.dirname(path), recursive=True)
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(content)

    def bring(self, directory: RunDirectory) -> str:
        """Brings a run's directory, held by this process, up to where the copy is; the longer journal wins. Returns
        what is to be said of it.

        Raises:
            BadInput: where the copy cannot be read.
        """
        run = directory.full_name
        path = directory.journal
        here = path.read_bytes() if path.exists() else b""
        with _refused(self.uri, "a place that can be read"):
            there = self.get(f"{run}/{JOURNAL}")
            if len(there) <= len(here):
                parted = not here.startswith(there)
                return f"the journal here is longer than that of {self.uri}/{run}: it counts" if parted else ""
            for name in self.files(run):
                write_whole(directory.path / name, self.get(f"{run}/{name}"))
        if not here:
            return f"the search is copied from {self.uri}/{run}"
        if not there.startswith(here):
            write_whole(directory.replaced_journal, here)
        return f"the journal of {self.uri}/{run} is longer than the one here: it counts"


class Copy:
    """A run's directory and its copy; `advance` brings the copy into line, for a `Tracker`."""

    def __init__(self, mirror: Mirror, directory: RunDirectory) -> None:
        self._mirror = mirror
        self._directory = directory
        self._run = directory.full_name
        self._copied: dict[str, Version | None] | None = None

    def advance(self) -> None:
        """Copies what has changed, and removes what is gone. Raises OSError where that fails."""
        if not self._directory.has_begun:
            return  # nothing has begun, and what is refused leaves nothing behind
        if self._copied is None:  # by an earlier session, in versions that nobody knows
            self._copied = dict.fromkeys(self._mirror.files(self._run))
        journals = {name: (self._directory.path / name).read_bytes() for name in self._journals()}
        versions = {name: (len(content), 0) for name, content in journals.items()}
        versions = dict(self._versions()) | versions
        for name in sorted(versions, key=_turn):
            if versions[name] != self._copied.get(name):
                with contextlib.suppress(FileNotFoundError):  # a checkpoint whose fold has ended meanwhile
                    content = journals[name] if name in journals else (self._directory.path / name).read_bytes()
                    self._mirror.put(f"{self._run}/{name}", content)
                    self._copied[name] = versions[name]
        for name in self._copied.keys() - versions.keys():
            with contextlib.suppress(FileNotFoundError):
                self._mirror.filesystem.delete_file(f"{self._mirror.root}/{self._run}/{name}")
            del self._copied[name]

    def _journals(self) -> list[str]:
        """The run's own first: it may speak of those below it, and they are read after it."""
        inner = (search.journal.relative_to(self._directory.path) for search in self._directory.row_searches())
        return [JOURNAL, *(path.as_posix() for path in inner)]

    def _versions(self) -> Iterator[tuple[str, Version]]:
        """Every file that is copied, by its name, with size and time of change (ns)."""
        for folder, folders, names in os.walk(self._directory.path):
            folders[:] = [name for name in folders if not _is_left_out(name)]
            for path in (Path(folder, name) for name in names if not _is_left_out(name)):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    yield path.relative_to(self._directory.path).as_posix(), (status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def mirrored(mirror: Mirror, directory: RunDirectory, say: Callable[[str], object]) -> Iterator[None]:
    """Keeps the copy in line in the background, up to the end of the block; says where it is not in the end."""
    ended = threading.Event()
    tracker = BackgroundSync(Copy(mirror, directory), f"the copy in {mirror.uri}")

    def tick() -> None:
        while not ended.wait(PERIOD_S):
            tracker.notify()

    threading.Thread(target=tick, name="mirror", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if not tracker.close(FLUSH_TIMEOUT_S):
            say(f"the copy in {mirror.uri} is behind; everything is in {directory}, and --resume copies it")


def fetch(uri: str, text: str, root: Path) -> None:
    """Copies the run that `text` (`name`, its newest, or `name/run`) means in a mirror to `root`, unless it is there.

    Raises:
        BadInput: where the mirror cannot be read.
    """
    mirror = Mirror.of(uri)
    name, _, run = text.strip("/").partition("/")
    with _refused(uri, "a place that can be read"):
        newest = run or mirror.newest_run(name)
        directory = RunDirectory(root / name / (newest or ""))
        if newest and not directory.has_begun and JOURNAL in mirror.files(directory.full_name):
            directory.path.mkdir(parents=True, exist_ok=True)
            with locked(directory):
                mirror.bring(directory)


@contextlib.contextmanager
def _refused(uri: str, expected: str) -> Iterator[None]:
    """What pyarrow raises in the block, as bad input."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise BadInput(Problem("tracking.mirror", expected, f"{uri}: {reason(error)}")) from None


def _is_left_out(name: str) -> bool:
    return name in NOT_MIRRORED or name.endswith(".new")


def _turn(name: str) -> tuple[bool, bool, int, str]:
    """What a journal speaks of comes before it, an inner journal before the outer one; checkpoints, which no journal
    needs, come last."""
    return name.startswith("checkpoints/"), PurePosixPath(name).name == JOURNAL, -name.count("/"), name
