"""Session of a command that trains: terminal, signals, and messages about a run that is interrupted or fails."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from rich.console import Console

from trainables.errors import BadInput
from tuner.cli.console import output_redirected_to, text_console
from tuner.cli.display import Display
from tuner.execution.run_context import RunContext, open_run, run_directory, store_flag
from tuner.experiment.search_experiment import Experiment
from tuner.messages.redaction import redact_logging, without_credentials
from tuner.messages.wording import one_line
from tuner.record.directory import RunDirectory
from tuner.record.history import ComparisonHistory, SearchHistory

logger = logging.getLogger(__name__)

Command = Literal["search", "compare"]
H = TypeVar("H", SearchHistory, ComparisonHistory)
Result = TypeVar("Result")


@contextlib.contextmanager
def command_session(
    experiment: Experiment, history: H, greeting: str, address: str | None, resume: bool, data_bytes: int
) -> Iterator[tuple[Console, RunContext[H]]]:
    """Opens the context of a checked experiment, or of its latest run if `resume`. Yields the console and the context.

    Output of libraries and child processes goes to the run's log; SIGTERM is handled as Ctrl-C; log records of this
    process are redacted. `greeting` is printed first; see `open_run` for the other arguments.

    Raises:
        BadInput: as `run_directory` and `open_run`.
    """
    redact_logging()
    stop_on_sigterm()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(run_directory(experiment, resume, _print))
        screen = text_console(stack.enter_context(output_redirected_to(directory.driver_log)))

        def say(line: str) -> None:
            screen.print(line, soft_wrap=True)

        say(f"{experiment.name}: {greeting}")
        context = stack.enter_context(open_run(experiment, directory, history, address, data_bytes, say))
        yield screen, context


def run_guarded(
    command: Command, context: RunContext[H], address: str | None, display: Display, body: Callable[[], Result]
) -> Result | None:
    """Runs `body` and returns its result. If it is interrupted or fails, prints why and how to resume, and returns
    None.

    Raises:
        BadInput: if `body` refuses its input before the first event of the run, which then leaves no files.
    """
    directory = context.directory
    try:
        return body()
    except KeyboardInterrupt:
        display.say(f"interrupted: every finished {display.unit} is kept in {directory}")
    except Exception as error:  # a bug, or a cluster that failed: what is finished is kept
        if isinstance(error, BadInput) and context.journal.history.started is None:
            raise
        logger.exception("%s failed", command)
        display.say(f"error: {without_credentials(one_line(error))}; the log is in {directory.logs}")
    if command == "search":
        display.say(f"see its results so far: python -m tuner.report {shlex.quote(str(directory))}")
    display.say(f"go on with: {resuming_command(command, directory, address, context.uri)}")
    return None


def resuming_command(command: Command, directory: RunDirectory, address: str | None, uri: str) -> str:
    """Returns the command that resumes the run.

    The run's record has all settings of the first command but a password.
    """
    where = f" --address {shlex.quote(address)}" if address else ""
    record = shlex.quote(str(directory.space))
    return f"python -m tuner.{command} --space {record}{where}{store_flag(uri)} --resume"


def stop_on_sigterm() -> None:
    """Handles SIGTERM (of `kill`, `python -m tuner.stop`, the end of a pod) as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _print(line: str) -> None:
    print(line, flush=True)
