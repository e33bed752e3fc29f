"""Attempts: commands with input that is wrong, and what became of them."""

from __future__ import annotations

import contextlib
import io
import json
import random
import signal
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.fuzz.folders import in_folder
from tests.fuzz.mistakes import ODD_VALUES, in_bytes, in_text, in_tree
from tests.tuner.reports.searches import write_search
from tests.tuner.tiny import tree_of, write_photos
from tuner import compare, report, search
from tuner import list as listing
from tuner.cli.arguments import guarded
from tuner.experiment.checks import check_experiment, load_images
from tuner.experiment.search_experiment import dump_experiment, load_experiment, parse_experiment
from tuner.record.directory import RunDirectory
from tuner.record.journal import open_search_journal
from tuner.reports.search_run import read_run

MAX_LINES = 40
MAX_CHARACTERS = 32_000
LIMIT_S = 20.0
SHIPPED = Path(__file__).parents[2] / "search_spaces"
SECTIONS = ("name", "data", "backbone", "method", "training", "search", "resources", "tracking", "retrain", "compare")
PLAIN_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3.5,
    10**20,
    "x",
    "",
    "\0",
    [],
    {},
    [[1]],
    {"a": {"b": 1}},
    "9" * 999,
)

Verdict = Literal["valid", "refused", "wrong"]


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt; `why` says what is wrong with it."""

    verdict: Verdict
    why: str = ""


class TooSlow(BaseException):
    """The attempt took longer than the limit. Not an Exception, so that no code takes it for one of its own."""


@dataclass(frozen=True)
class Attempt:
    """A command on input in a folder; `name` says what kind of input."""

    name: str
    run: Callable[[], int]


def attempt_of(number: int, seed: int, folder: Path) -> Attempt:
    """Makes attempt `number`, in `folder`, which is empty. The same numbers make the same one."""
    draw = random.Random(f"{seed}/{number}")
    make = draw.choices((_file, _tree, _flag, _photos, _journal), weights=(4, 4, 4, 1, 3))[0]
    return make(draw, folder)


def outcome_of(attempt: Attempt) -> Outcome:
    """Runs an attempt: it is valid with exit code 0, refused with 1 or 2 and a message, and else wrong."""
    out, err = io.StringIO(), io.StringIO()
    began_s = time.monotonic()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _time_limit(LIMIT_S),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            code = attempt.run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 2
    except TooSlow as slow:
        return Outcome("wrong", f"longer than {LIMIT_S:g} s, in {_last_frame(slow)}")
    except BaseException as error:
        return Outcome("wrong", f"{type(error).__name__}: {str(error)[:200]!r} in {_last_frame(error)}")
    return _judged(code, err.getvalue(), time.monotonic() - began_s)


def _judged(code: int, said: str, took_s: float) -> Outcome:
    if code not in (0, 1, 2):
        return Outcome("wrong", f"exit code {code}")
    if "Traceback (most recent call last)" in said:
        return Outcome("wrong", "a traceback on the screen")
    if code and not said.strip():
        return Outcome("wrong", f"exit code {code} without a message")
    if (num_lines := said.count("\n")) > MAX_LINES:
        return Outcome("wrong", f"{num_lines} lines of error")
    if len(said) > MAX_CHARACTERS:
        return Outcome("wrong", f"{len(said)} characters of error")
    if took_s > LIMIT_S:
        return Outcome("wrong", f"took {took_s:.0f} s")
    return Outcome("refused" if code else "valid")


@contextlib.contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    def stop(number: int, frame: types.FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _last_frame(error: BaseException) -> str:
    """Place in this project where an error came up."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(SHIPPED.parent)
    own = [frame for frame in frames if frame.filename.startswith(root) and "/tests/" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{frame.filename.removeprefix(root).strip('/')}:{frame.lineno} ({frame.name})"


def _base(draw: random.Random, folder: Path) -> tuple[str, Any]:
    """The text of an experiment that is right, and the command that takes it."""
    kind = draw.choice(("tiny", "tiny", "alternatives", "smile", "compare", "photos"))
    tracking = {"uri": f"sqlite:///{folder}/mlflow.db", "directory": str(folder / "experiments")}
    match kind:
        case "smile":
            return (SHIPPED / "smile.yaml").read_text(encoding="utf-8"), search
        case "compare":
            return (SHIPPED / "compare" / "digits.yaml").read_text(encoding="utf-8"), compare
        case "photos":
            write_photos(folder / "photos", side_px=8, train=4, test=2)
            data = {"dataset": "imagefolder", "root": str(folder / "photos"), "size_px": 16}
            return yaml.safe_dump(tree_of(data=data, tracking=tracking), sort_keys=False), search
        case "alternatives":
            methods = {"choice": [{"name": "l2"}, {"name": "mixup", "alpha": {"uniform": [0.1, 1.0]}}]}
            return yaml.safe_dump(tree_of(method=methods, tracking=tracking), sort_keys=False), search
    return yaml.safe_dump(tree_of(tracking=tracking), sort_keys=False), search


def _dry_run(command: Any, file: Path, *more: str) -> int:
    code: int = command.main(["--space", str(file), "--dry-run", *more])
    return code


def _file(draw: random.Random, folder: Path) -> Attempt:
    """An experiment file with mistakes in its text."""
    text, command = _base(draw, folder)
    for _ in range(draw.choice((1, 1, 2, 5))):
        text = in_text(text, draw)
    file = folder / "x.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    more = draw.choice(((), (), ("--smoke",)))
    return Attempt("file", lambda: _dry_run(command, file, *more))


def _tree(draw: random.Random, folder: Path) -> Attempt:
    """An experiment file with a value of another kind somewhere."""
    text, command = _base(draw, folder)
    tree = yaml.safe_load(text)
    for _ in range(draw.choice((1, 1, 3))):
        tree = in_tree(tree, draw, PLAIN_VALUES)
    file = folder / "x.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return Attempt("tree", lambda: _dry_run(command, file))


def _flag(draw: random.Random, folder: Path) -> Attempt:
    """An experiment that is right, with flags that are not."""
    text, command = _base(draw, folder)
    file = folder / "x.yaml"
    file.write_text(text, encoding="utf-8")
    paths = [path for path in _paths(yaml.safe_load(text)) if path]
    path = draw.choice((draw.choice(paths), draw.choice(paths), draw.choice(SECTIONS), "search.", ".x", "a.b.c.d"))
    value = draw.choice(ODD_VALUES)
    flags = draw.choice(
        (
            ("--set", f"{path}={value}"),
            ("--set", f"{path}={value}"),
            ("--set", f"{path}={value}"),
            ("--json", draw.choice(("/dev/null/x.json", "/proc/x.json", str(folder), "nowhere/x.json"))),
            ("--tracking-uri", value or "x"),
            ("--name", value or "x"),
        )
    )
    return Attempt("flag", lambda: _dry_run(command, file, *(flag.replace("\0", "") for flag in flags)))


def _paths(tree: Any, prefix: str = "") -> Iterator[str]:
    yield prefix
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield from _paths(value, f"{prefix}.{key}" if prefix else str(key))


def _photos(draw: random.Random, folder: Path) -> Attempt:
    """A folder of photographs with something else in it."""
    root = folder / "photos"
    write_photos(root, side_px=8, train=4, test=2)
    inside = sorted(root.rglob("*.png"))
    for _ in range(draw.choice((1, 2, 4))):
        in_folder(draw.choice(inside), draw)
    data = {"dataset": "imagefolder", "root": str(root), "size_px": 16}

    def run() -> int:
        def checked() -> int:
            space = parse_experiment(tree_of(data=data), "x.yaml")
            check_experiment(space)
            load_images(space)
            return 0

        return guarded(checked)

    return Attempt("photos", run)


def _journal(draw: random.Random, folder: Path) -> Attempt:
    """A run with damage in its journal or another of its files."""
    directory = write_search(folder / "experiments" / "tiny" / "20261129-101500-ab12")
    space = parse_experiment(tree_of(), "x.yaml")
    directory.space.write_text(dump_experiment(space), encoding="utf-8")
    _damage(directory, draw)
    root = str(folder / "experiments")

    def warm_start() -> int:
        file = folder / "x.yaml"
        file.write_text(yaml.safe_dump(tree_of()), encoding="utf-8")
        return _dry_run(search, file, "--warm-start", str(directory), "--tracking-uri", f"sqlite:///{folder}/m.db")

    def resume() -> int:
        open_search_journal(directory).close()
        load_experiment(directory.space)
        return 0

    def read() -> int:
        read_run(directory).result.trials()
        return 0

    commands: tuple[Callable[[], int], ...] = (
        lambda: listing.main(["--directory", root]),
        lambda: report.main(["tiny", "--directory", root, "--output", str(folder / "report.html")]),
        warm_start,
        lambda: guarded(resume),
        lambda: guarded(read),
        lambda: guarded(read),
    )
    return Attempt("journal", draw.choice(commands))


def _damage(directory: RunDirectory, draw: random.Random) -> None:
    file = draw.choice((directory.journal,) * 5 + (directory.environment, directory.space))
    if file == directory.journal and draw.random() < 0.5:
        lines = file.read_text(encoding="utf-8").splitlines()
        at = draw.randrange(len(lines))
        lines[at] = json.dumps(in_tree(json.loads(lines[at]), draw, PLAIN_VALUES))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        file.write_bytes(in_bytes(file.read_bytes(), draw))
