"""Mirror: a copy of the run directory in an object store, from which another machine can resume the search.

    s3://bucket/prefix/<name>/<run>/        as in the experiments folder, without locks, logs and Ray's files

The search works in a directory of a file system, as object stores have neither locks nor appends. In the background
everything that has changed is uploaded, each file whole. The journal is read first and uploaded after all files that it
may refer to, so that at any time the mirror is that of a search that was interrupted a few seconds before.
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
from tuner.record.background import BackgroundSync, OnProgress
from tuner.record.directory import JOURNAL, NOT_MIRRORED, RunDirectory
from tuner.record.lock import locked

READABLE = "an object store that can be read"

PERIOD_S = 5.0
"""Period of the uploads; so much of a search may be lost with its machine."""
FLUSH_TIMEOUT_S = 60.0
"""How long the end of a session waits for the mirror to be in sync."""

Version = tuple[int, int]
"""Size and time of change (ns) of a file; of a journal, its length and 0."""


@dataclass(frozen=True)
class Mirror:
    """Object store (or folder) with copies of run directories. Methods raise OSError if it does not answer.

    mirror = Mirror.open("s3://bucket/prefix")
    mirror.pull(directory)
    """

    uri: str
    filesystem: fs.FileSystem
    root: str

    @classmethod
    def of(cls, uri: str) -> Self:
        """Returns the mirror at `uri`. S3's endpoint, region and credentials are those of the environment:
        AWS_ENDPOINT_URL, AWS_REGION, keys or an instance's role. Raises BadInput for a URI of no such store."""
        with _refused(uri, "the URI of an object store, as s3://bucket/prefix"):
            return cls(uri, *fs.FileSystem.from_uri(uri))

    @classmethod
    def open(cls, uri: str) -> Self:
        """Returns the mirror at `uri`, after a test that it can be written. Raises BadInput if it cannot."""
        mirror = cls.of(uri)
        with _refused(uri, "an object store that can be written"):
            mirror.put(".probe", b"")
            mirror.filesystem.delete_file(f"{mirror.root}/.probe")
        return mirror

    def names(self) -> list[str]:
        """Lists the names of the mirrored experiments. Raises BadInput if the store cannot be read."""
        return self._folders(self.root)

    def newest_run(self, name: str) -> str | None:
        """Returns the newest run of that name; None if there is none. Raises BadInput if the store cannot be read."""
        runs = sorted(self._folders(f"{self.root}/{name}"), reverse=True)
        with _refused(self.uri, READABLE):
            return next((run for run in runs if JOURNAL in self.files(f"{name}/{run}")), None)

    def _folders(self, folder: str) -> list[str]:
        with _refused(self.uri, READABLE):
            infos = self.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
            return [info.base_name for info in infos if info.type == fs.FileType.Directory]

    def files(self, run: str) -> list[str]:
        """Lists the files of `name/run`, in the order of their upload."""
        folder = f"{self.root}/{run}"
        infos = self.filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        names = (info.path.removeprefix(f"{folder}/") for info in infos if info.type == fs.FileType.File)
        return sorted((name for name in names if ".." not in PurePosixPath(name).parts), key=_upload_order)

    def get(self, name: str) -> bytes:
        """Returns a file's content; b"" if there is no such file."""
        try:
            with self.filesystem.open_input_stream(f"{self.root}/{name}", compression=None) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return b""

    def put(self, name: str, content: bytes) -> None:
        """Writes a file; in an object store, whole or not at all."""
        path = f"{self.root}/{name}"
        if self.filesystem.type_name == "local":
            self.filesystem.create_dir(os.path.dirname(path), recursive=True)
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(content)

    def pull(self, directory: RunDirectory) -> str:
        """Downloads a run into its directory, locked by this process, if the mirror's journal is the longer one.

        Returns a line for the user, or "" if both agree.

        Raises:
            BadInput: if the store cannot be read.
        """
        run = directory.full_name
        path = directory.journal
        here = path.read_bytes() if path.exists() else b""
        with _refused(self.uri, READABLE):
            there = self.get(f"{run}/{JOURNAL}")
            if len(there) <= len(here):
                differs = not here.startswith(there)
                return f"the journal here is longer than that of {self.uri}/{run}, and is used" if differs else ""
            for name in self.files(run):
                write_whole(directory.path / name, self.get(f"{run}/{name}"))
        if not here:
            return f"the search is copied from {self.uri}/{run}"
        if not there.startswith(here):
            write_whole(directory.replaced_journal, here)
        return f"the journal of {self.uri}/{run} is longer than the one here, and is used"


class MirrorUploader:
    """Uploads what has changed in a run's directory to its mirror, for a `BackgroundSync`."""

    def __init__(self, mirror: Mirror, directory: RunDirectory) -> None:
        self._mirror = mirror
        self._directory = directory
        self._run = directory.full_name
        self._uploaded: dict[str, Version | None] | None = None

    def advance(self, on_progress: OnProgress = lambda: None) -> None:
        """Uploads the files that have changed, and removes those that are gone. Calls `on_progress` after each upload.

        Raises OSError if that fails.
        """
        if not self._directory.has_begun:
            return  # a run that is refused before its first event leaves nothing behind
        if self._uploaded is None:  # what an earlier session uploaded, in unknown versions
            self._uploaded = dict.fromkeys(self._mirror.files(self._run))
        journals = {name: (self._directory.path / name).read_bytes() for name in self._journals()}
        versions = {name: (len(content), 0) for name, content in journals.items()}
        versions = dict(self._versions()) | versions
        for name in sorted(versions, key=_upload_order):
            if versions[name] != self._uploaded.get(name):
                with contextlib.suppress(FileNotFoundError):  # a checkpoint whose fold has ended meanwhile
                    content = journals[name] if name in journals else (self._directory.path / name).read_bytes()
                    self._mirror.put(f"{self._run}/{name}", content)
                    self._uploaded[name] = versions[name]
                on_progress()
        for name in self._uploaded.keys() - versions.keys():
            with contextlib.suppress(FileNotFoundError):
                self._mirror.filesystem.delete_file(f"{self._mirror.root}/{self._run}/{name}")
            del self._uploaded[name]

    def _journals(self) -> list[str]:
        """Lists the journals, the run's own first: it may refer to those of its searches, which are read after it."""
        inner = (search.journal.relative_to(self._directory.path) for search in self._directory.row_searches())
        return [JOURNAL, *(path.as_posix() for path in inner)]

    def _versions(self) -> Iterator[tuple[str, Version]]:
        """Yields every file that is mirrored, with its version."""
        for folder, folders, names in os.walk(self._directory.path):
            folders[:] = [name for name in folders if not _is_left_out(name)]
            for path in (Path(folder, name) for name in names if not _is_left_out(name)):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    yield path.relative_to(self._directory.path).as_posix(), (status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def mirrored(mirror: Mirror, directory: RunDirectory, say: Callable[[str], object]) -> Iterator[None]:
    """Keeps the mirror in sync in the background for the block; says so if it is not at the end."""
    ended = threading.Event()
    sync = BackgroundSync(MirrorUploader(mirror, directory), f"the copy in {mirror.uri}")

    def tick() -> None:
        while not ended.wait(PERIOD_S):
            sync.notify()

    threading.Thread(target=tick, name="mirror", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if not sync.close(FLUSH_TIMEOUT_S):
            say(f"the copy in {mirror.uri} is behind; everything is in {directory}, and --resume copies it")


def download_run(uri: str, text: str, root: Path) -> None:
    """Downloads a run, named by `text` (`name` for its newest, or `name/run`), to `root` unless it is there.

    Raises:
        BadInput: if the mirror cannot be read.
    """
    mirror = Mirror.of(uri)
    name, _, run = text.strip("/").partition("/")
    with _refused(uri, READABLE):
        newest = run or mirror.newest_run(name)
        directory = RunDirectory(root / name / (newest or ""))
        if newest and not directory.has_begun and JOURNAL in mirror.files(directory.full_name):
            directory.path.mkdir(parents=True, exist_ok=True)
            with locked(directory):
                mirror.pull(directory)


@contextlib.contextmanager
def _refused(uri: str, expected: str) -> Iterator[None]:
    """Raises BadInput for an error of pyarrow in the block."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise BadInput(Problem("tracking.mirror", expected, f"{uri}: {reason(error)}")) from None


def _is_left_out(name: str) -> bool:
    return name in NOT_MIRRORED or name.endswith(".new")


def _upload_order(name: str) -> tuple[bool, bool, int, str]:
    """Sort key: files before the journal that refers to them, an inner journal before the outer one, and checkpoints,
    which no journal refers to, last."""
    return name.startswith("checkpoints/"), PurePosixPath(name).name == JOURNAL, -name.count("/"), name
