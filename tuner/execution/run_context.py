"""What a command that trains for long runs in: its directory, the cluster, the journal and MLflow behind it.

`session` opens all of it in an order in which whatever is refused leaves nothing behind; `run_guarded` ends it
well, however its story ends.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console

from tuner.cli.console import output_redirected_to
from tuner.cli.display import Display
from tuner.cluster.connection import cluster
from tuner.experiment.search_experiment import Experiment
from tuner.experiment.settings import tracking_uri
from tuner.messages.redaction import redact_logging, without_credentials
from tuner.messages.wording import one_line
from tuner.record.background import BackgroundSync
from tuner.record.directory import check_goes_on, latest_run, new_run, write_record
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.record.mirror import Mirror, mirrored
from tuner.resources.share import Share, share_of
from tuner.tracking.process import ProjectionProcess
from tuner.tracking.store import StoreAway, prepare_store

logger = logging.getLogger(__name__)

Command = Literal["search", "compare"]
FINISHED: dict[Command, str] = {"search": "search_finished", "compare": "comparison_finished"}

FLUSH_TIMEOUT_S = 60.0
"""How long the end of a session waits for MLflow to have taken everything in."""
CLOSE_TIMEOUT_S = 10.0
"""The same where it was cut off."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class RunContext:
    """Everything that a running experiment writes to and runs on. `uri` is the store's, with its credentials."""

    experiment: Experiment
    address: str | None
    directory: Path
    uri: str
    screen: Console
    share: Share
    journal: Journal
    tracker: BackgroundSync


@contextlib.contextmanager
def session(
    experiment: Experiment, greeting: str, address: str | None, resume: bool, data_bytes: int = 0
) -> Iterator[RunContext]:
    """Opens a checked experiment, or its latest run again; every event of its journal is carried over to MLflow.

    `data_bytes` is what the cluster must hold of decoded data.

    Raises:
        BadInput: where directory, store or cluster cannot be had. A store that is only away for now can.
    """
    redact_logging()
    stop_on_sigterm()
    with ExitStack() as stack:
        mirror = Mirror.open(experiment.tracking.mirror) if experiment.tracking.mirror else None
        directory = stack.enter_context(experiment_directory(experiment, resume, mirror))
        screen = Console(
            file=stack.enter_context(output_redirected_to(directory / "logs" / "driver.log")), highlight=False
        )
        screen.print(f"{experiment.name}: {greeting}", soft_wrap=True)
        if mirror is not None:
            say = partial(screen.print, soft_wrap=True, markup=False)
            stack.enter_context(mirrored(mirror, directory, say))
        uri = tracking_uri(experiment.tracking.uri)
        try:
            prepare_store(uri, experiment.name)
        except StoreAway as away:
            screen.print(f"MLflow is away, {away.problems[0].got}", soft_wrap=True, markup=False)
            screen.print("  the search starts without it; all will be carried over as soon as it is back")
        nodes = stack.enter_context(cluster(address, data_bytes))
        stop_on_sigterm()  # again: Ray has put its own exit there
        share = share_of(nodes, experiment.resources, experiment.search.concurrency)
        journal = stack.enter_context(closing(Journal(directory)))
        tracker = stack.enter_context(tracked(journal, uri, experiment.name))
        yield RunContext(experiment, address, directory, uri, screen, share, journal, tracker)


@contextlib.contextmanager
def tracked(journal: Journal, uri: str, experiment: str) -> Iterator[BackgroundSync]:
    """Carries the journal over to MLflow, in another process."""
    projection = ProjectionProcess(uri, experiment, journal.directory)
    tracker = BackgroundSync(projection)
    journal.listeners.append(lambda event, history: tracker.notify())
    try:
        yield tracker
    finally:
        tracker.close(CLOSE_TIMEOUT_S)
        projection.close()


def run_guarded(session: RunContext, display: Display, command: Command, story: Callable[[], Result]) -> Result | None:
    """What `story` comes to; None where it was cut off, which has then been said, with how to go on."""
    journal, logs = session.journal, session.directory / "logs"
    try:
        result = story()
    except KeyboardInterrupt:
        display.say(f"interrupted: every finished {display.unit} is kept in {session.directory}")
        journal.append(FINISHED[command], why="interrupted")
    except Exception as error:  # a bug, or a cluster that broke down: say so, keep what there is
        logger.exception("the %s broke off", command)
        why = without_credentials(one_line(error))
        display.say(f"error: {why}; the full story is in {logs}")
        with contextlib.suppress(OSError):  # it may be the disk that broke it off
            journal.append(FINISHED[command], why=why)
    else:
        if not session.tracker.flush(FLUSH_TIMEOUT_S):
            display.say(
                f"MLflow is behind; bring it into line with: {replaying_command(session.directory, session.uri)}"
            )
        return result
    if command == "search":
        display.say(f"see how far it came: python -m tuner.report {shlex.quote(str(session.directory))}")
    display.say(f"go on with: {resuming_command(command, session.directory, session.address, session.uri)}")
    return None


@contextlib.contextmanager
def experiment_directory(experiment: Experiment, resume: bool, mirror: Mirror | None = None) -> Iterator[Path]:
    """The run's directory, held by this process. One that is refused before its first event leaves nothing behind."""
    directory = latest_run(experiment, mirror) if resume else new_run(experiment)
    directory.mkdir(parents=True, exist_ok=True)  # of a run that only the mirror has
    with locked(directory):
        try:
            if resume:
                if mirror is not None and (said := mirror.bring(directory)):
                    print(said, flush=True)
                check_goes_on(experiment, directory)
                write_record(experiment, directory)
            yield directory
        except BaseException:
            if not (directory / "journal.jsonl").exists():
                shutil.rmtree(directory)
            raise


def resuming_command(command: Command, directory: Path, address: str | None, uri: str) -> str:
    """What goes on from `directory`: its record says all that the first command said, but no password."""
    where = f" --address {shlex.quote(address)}" if address else ""
    record = shlex.quote(str(directory / "space.yaml"))
    return f"python -m tuner.{command} --space {record}{where}{_store_of(uri)} --resume"


def replaying_command(directory: Path, uri: str) -> str:
    """What brings MLflow into line with `directory`."""
    return f"python -m tuner.replay {shlex.quote(str(directory))}{_store_of(uri)}"


def stop_on_sigterm() -> None:
    """Makes `kill`, `python -m tuner.stop` and a pod's end what Ctrl-C is, which a job in the background may ignore."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _store_of(uri: str) -> str:
    return " --tracking-uri <with its credentials>" if without_credentials(uri) != uri else ""
