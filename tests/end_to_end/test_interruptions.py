"""One search that is cut off three times, by what no code of Python sees coming, and says so each time.

Where it runs is no better: a home folder that cannot be written, a temporary folder with a long path, and containers
of different time zones. First Ray's raylet is killed; then nobody reads the output any more, and the terminal is
closed; at last the experiments are removed while the search runs.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import termios
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.commands import DEADLINE_S, Run, ended, run_command, start_process, wait_until
from tests.end_to_end.forked import clean_environment
from tests.end_to_end.processes import came_true, marked_processes, raylets
from tests.end_to_end.records import Event, events_below, events_of, fold_numbers, was_interrupted
from tests.end_to_end.space import write_space

pytestmark = pytest.mark.slow

MARK = "CUT_OFF"
NO_HOME = {"HOME": "/dev/null/home"}
EAST, WEST = {"TZ": "Etc/GMT-14"}, {"TZ": "Etc/GMT+12"}
ARGUMENTS = ("tuner.search", "--space", "tiny.yaml", "--set", "search.trials=500")
"""More trials than can end: Ray takes some seconds to end its driver after a raylet."""
ASK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None)"
GONE_S = 90.0
"""How long processes may outlive the search. Two agents of Ray's try for 61 s to tell a dead cluster that it is."""


@dataclass(frozen=True)
class Story:
    """What the three starts left behind. `listening` are the addresses at which processes of the first listened,
    `mode` that of the folder that holds Ray's, `tokens` those of Ray in the first and the second; `closed` is the exit
    code of the second, of which nobody reads the output. `is_answered` says whether Ray answered who has which token.
    """

    directory: Path
    killed: Run
    listed: str
    listening: list[str]
    mode: int
    tokens: list[str]
    is_answered: dict[str, bool]
    files: str
    closed: int
    after_closing: list[Event]
    removed: Run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Story:
    folder = tmp_path_factory.mktemp("cut-off")
    long = folder / ("long-" * 20)
    long.mkdir()
    write_space(folder, photos)

    first = start_process(*ARGUMENTS, folder=folder, environment=NO_HOME | EAST | {MARK: "1", "TMPDIR": str(long)})
    wait_until(lambda: fold_numbers(events_below(folder)) != [], first)
    listening, tokens = addresses_of(f"{MARK}=1"), [token_of(f"{MARK}=1")]
    mode = stat.S_IMODE(Path(argument_of(f"{MARK}=1", "--temp_dir")).parent.stat().st_mode)
    is_answered = {
        "its own": is_answered_by(f"{MARK}=1", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=tokens[0]),
        "another": is_answered_by(f"{MARK}=1", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
        "none": is_answered_by(f"{MARK}=1", RAY_AUTH_MODE="disabled"),
    }
    os.kill(raylets(f"{MARK}=1")[0], signal.SIGKILL)
    killed = ended(first, folder)
    directory = killed.directory
    listed = run_command("tuner.list", "--json", "-", folder=folder).out

    closed = run_on_a_terminal(folder, tokens)
    after_closing = events_of(directory)
    written = (path for path in folder.rglob("*") if path.is_file())
    files = "".join(path.read_text(errors="replace") for path in written)

    third = start_process(*ARGUMENTS, "--resume", folder=folder, environment={MARK: "3"})
    wait_until(lambda: num_folds(folder) > len(fold_numbers(after_closing)), third)
    shutil.rmtree(folder / "experiments", ignore_errors=True)  # in which processes of the search still write
    return Story(
        directory,
        killed,
        listed,
        listening,
        mode,
        tokens,
        is_answered,
        files,
        closed,
        after_closing,
        ended(third, folder),
    )


def run_on_a_terminal(folder: Path, tokens: list[str]) -> int:
    """Goes on with the search on a terminal, with its output into a pipe, and closes first the one, then the other."""
    ours, theirs = pty.openpty()
    before = num_folds(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", *ARGUMENTS, "--resume"],
        cwd=folder,
        env=clean_environment() | WEST | {MARK: "2"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()  # as `head -n 1` does
    wait_until(lambda: num_folds(folder) > before, process)
    tokens.append(token_of(f"{MARK}=2"))
    os.close(ours)
    return process.wait(DEADLINE_S)


def num_folds(folder: Path) -> int:
    return len(fold_numbers(events_below(folder)))


def addresses_of(mark: str) -> list[str]:
    """Addresses at which the marked processes wait for connections."""
    found = []
    for pid in marked_processes(mark):
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.append(connection.laddr.ip)
    return found


def is_loopback(address: str) -> bool:
    """Also of an IPv4 address in the form of IPv6."""
    ip = ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def argument_of(mark: str, flag: str) -> str:
    """Value of a flag of the marked raylet."""
    arguments = Path(f"/proc/{raylets(mark)[0]}/cmdline").read_bytes().decode().split("\0")
    return next(a.removeprefix(f"{flag}=") for a in arguments if a.startswith(f"{flag}="))


def is_answered_by(mark: str, **environment: str) -> bool:
    """Whether the marked Ray answers a client with that environment."""
    command = [sys.executable, "-c", ASK, argument_of(mark, "--gcs-address")]
    asked = subprocess.run(
        command, env=clean_environment() | environment, capture_output=True, timeout=120, check=False
    )
    return asked.returncode == 0


def token_of(mark: str) -> str:
    """The token of Ray in the environment of the marked raylet."""
    variables = Path(f"/proc/{raylets(mark)[0]}/environ").read_bytes().decode().split("\0")
    return next(v.removeprefix("RAY_AUTH_TOKEN=") for v in variables if v.startswith("RAY_AUTH_TOKEN="))


class TestAKilledRaylet:
    def test_is_said_with_how_to_go_on(self, story: Story) -> None:
        run = story.killed
        assert run.code != 0
        assert "Traceback" not in run.out + run.err
        error, report, resume = run.out.splitlines()[-3:]
        assert error.startswith("error: Ray's raylet (process ")
        assert report == f"see its results so far: python -m tuner.report {story.directory}"
        assert resume == f"go on with: python -m tuner.search --space {story.directory / 'space.yaml'} --resume"

    def test_leaves_a_search_that_died(self, story: Story) -> None:
        assert '"state": "died"' in story.listed

    def test_comes_from_a_ray_that_nobody_else_reaches(self, story: Story) -> None:
        assert story.listening
        assert [address for address in story.listening if not is_loopback(address)] == []
        assert story.mode == 0o700

    def test_has_a_token_that_is_new_each_time_and_in_no_file(self, story: Story) -> None:
        assert len(set(story.tokens)) == 2
        assert min(map(len, story.tokens)) == 64
        assert not any(token in story.files for token in story.tokens)
        assert story.is_answered == {"its own": True, "another": False, "none": False}


class TestAClosedTerminal:
    def test_is_as_ctrl_c(self, story: Story) -> None:
        assert story.closed == 1
        assert was_interrupted(story.after_closing)

    def test_ends_what_a_closed_pipe_did_not(self, story: Story) -> None:
        assert len(fold_numbers(story.after_closing)) >= 2

    def test_finds_the_run_in_any_time_zone(self, story: Story) -> None:
        """There is one, that of the first start, half a day further east."""
        assert len(set(fold_numbers(story.after_closing))) == len(fold_numbers(story.after_closing))


class TestARecordThatIsRemoved:
    def test_ends_the_search_with_the_reason(self, story: Story) -> None:
        run = story.removed
        assert run.code == 1
        assert "Traceback" not in run.out + run.err
        assert "removed or replaced while the run was writing it" in run.out
        assert "journal.jsonl" in run.out

    def test_is_not_claimed_to_be_there(self, story: Story) -> None:
        last = story.removed.out.splitlines()[-1]
        assert "there is no record to go on with" in last
        for words in ("go on with: ", "see its results", "best  ", "record "):
            assert words not in story.removed.out.replace(last, "")


def test_nothing_is_left_of_any(story: Story) -> None:
    assert came_true(lambda: not marked_processes(f"{MARK}="), GONE_S), marked_processes(f"{MARK}=")
