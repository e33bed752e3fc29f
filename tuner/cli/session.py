"""Session of a command that trains: terminal, signals, and messages about a run that is interrupted or fails."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Literal, TypeVar

from rich.console import Console

from trainables.errors import BadInput
from tuner.cli.console import Screen, output_redirected_to, print_line, text_console
from tuner.cli.display import Display
from tuner.cli.exit_monitor import exit_monitored
from tuner.execution.run_context import RunContext, open_run, run_directory, store_flag
from tuner.experiment.search_experiment import Experiment
from tuner.messages.invocation import command_line
from tuner.messages.redaction import redact_logging, without_credentials
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.record.history import ComparisonHistory, SearchHistory

logger = logging.getLogger(__name__)

Command = Literal["search", "compare"]
NOUNS: Mapping[Command, str] = {"search": "search", "compare": "comparison"}
H = TypeVar("H", SearchHistory, ComparisonHistory)
Result = TypeVar("Result")


@contextlib.contextmanager
def command_session(
    experiment: Experiment, history: H, greeting: str, address: str | None, resume: bool, data_bytes: int
) -> Iterator[tuple[Console, RunContext[H]]]:
    """Opens the context of a checked experiment, or of its latest run if `resume`. Yields the console and the context.

    Output of libraries and child processes goes to the run's log; SIGTERM and SIGHUP are handled as Ctrl-C; log
    records of this process are redacted. `greeting` is printed first; see `open_run` for the other arguments.

    Raises:
        BadInput: as `run_directory` and `open_run`.
    """
    redact_logging()
    stop_on_signals()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(run_directory(experiment, resume, _print))
        screen = text_console(stack.enter_context(output_redirected_to(directory.driver_log)))

        def say(line: str) -> None:
            for each in line.splitlines():
                print_line(screen, each)

        say(f"{experiment.name}: {greeting}")
        context = stack.enter_context(open_run(experiment, directory, history, address, data_bytes, say))
        yield screen, context


def run_guarded(
    command: Command, context: RunContext[H], address: str | None, display: Display, body: Callable[[], Result]
) -> Result | None:
    """Runs `body` and returns its result. If it is interrupted or fails, prints why and how to resume, and returns
    None. If this process dies, a child process prints it.

    Raises:
        BadInput: if `body` refuses its input before the first event of the run, which then leaves no files.
    """
    directory = context.directory
    advice = _how_to_go_on(command, directory, address, context.uri)
    screen = display.console.file
    descriptor = screen.fileno() if isinstance(screen, Screen) else None
    with exit_monitored(descriptor, NOUNS[command], directory.journal, directory.exit_report, advice):
        try:
            return body()
        except KeyboardInterrupt:
            display.end()
            display.say(f"interrupted: every finished {display.unit} is kept in {directory}")
        except Exception as error:  # a bug, or a cluster that failed: what is finished is kept
            if isinstance(error, BadInput) and context.journal.history.started is None:
                raise
            logger.exception("%s failed", command)
            display.end()
            display.say(f"error: {without_credentials(one_line(error))}; the log is in {directory.logs}")
        if not directory.has_begun:
            display.say(f"there is no record to go on with: {directory} was removed")
            return None
        for line in advice:
            display.say(line)
        return None


def _how_to_go_on(command: Command, directory: RunDirectory, address: str | None, uri: str) -> list[str]:
    """Returns lines on what can be done with a run that did not come to its end."""
    lines = [f"go on with: {resuming_command(command, directory, address, uri)}"]
    if command == "search":
        lines.insert(0, f"see its results so far: {command_line('report', directory)}")
    return lines


def resuming_command(command: Command, directory: RunDirectory, address: str | None, uri: str) -> str:
    """Returns the command that resumes the run.

    The run's record has all settings of the first command but a password.
    """
    where = ("--address", address) if address else ()
    return f"{command_line(command, '--space', directory.space, *where, '--resume')}{store_flag(uri)}"


def stop_on_signals() -> None:
    """Handles SIGTERM (of `kill`, `python -m tuner.stop`, the end of a pod) and SIGHUP (of a terminal that is closed)
    as Ctrl-C; a SIGHUP that is ignored, as under `nohup`, still is."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt_once)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; the kernel and the shell may both send the signal, and once is enough."""
    signal.signal(number, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


def _print(line: str) -> None:
    print(line, flush=True)
