"""What a command that trains for long runs in: its directory, the cluster, the journal and MLflow behind it.

`session` opens all of it in an order in which whatever is refused leaves nothing behind; `carried_through` ends it
well, however its story ends.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console

from tuner.cluster import Share, chatter_to, cluster, share_of
from tuner.directory import latest_run, locked, new_run, write_record
from tuner.display import Display
from tuner.journal import Journal
from tuner.redaction import without_credentials
from tuner.space import Experiment
from tuner.tracking import Projection, Tracker, prepare_store, tracking_uri
from tuner.trials import one_line

logger = logging.getLogger(__name__)

Command = Literal["search", "compare"]
FINISHED: dict[Command, str] = {"search": "search_finished", "compare": "comparison_finished"}

FLUSH_TIMEOUT_S = 60.0
"""How long the end of a session waits for MLflow to have taken everything in."""
CLOSE_TIMEOUT_S = 10.0
"""The same where it was cut off."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Session:
    """Everything that a running experiment writes to and runs on. `uri` is the store's, with its credentials."""

    experiment: Experiment
    address: str | None
    directory: Path
    uri: str
    screen: Console
    share: Share
    journal: Journal
    tracker: Tracker


@contextlib.contextmanager
def session(experiment: Experiment, greeting: str, address: str | None, resume: bool) -> Iterator[Session]:
    """Opens a checked experiment, or its latest run again; every event of its journal is carried over to MLflow.

    Raises:
        BadInput: where directory, store or cluster cannot be had.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(experiment_directory(experiment, resume))
        screen = Console(file=stack.enter_context(chatter_to(directory / "logs" / "driver.log")), highlight=False)
        screen.print(f"{experiment.name}: {greeting}", soft_wrap=True)
        uri = tracking_uri(experiment.tracking.uri)
        prepare_store(uri, experiment.name)
        nodes = stack.enter_context(cluster(address))
        share = share_of(nodes, experiment.resources, experiment.search.concurrency)
        journal = stack.enter_context(closing(Journal(directory)))
        tracker = stack.enter_context(tracked(journal, uri, experiment.name))
        yield Session(experiment, address, directory, uri, screen, share, journal, tracker)


@contextlib.contextmanager
def tracked(journal: Journal, uri: str, experiment: str) -> Iterator[Tracker]:
    """Carries the journal over to MLflow in the background."""
    tracker = Tracker(Projection(uri, experiment, journal.directory))
    journal.listeners.append(lambda event, history: tracker.notify())
    try:
        yield tracker
    finally:
        tracker.close(CLOSE_TIMEOUT_S)


def carried_through(session: Session, display: Display, command: Command, story: Callable[[], Result]) -> Result | None:
    """What `story` comes to; None where it was cut off, which has then been said, with how to go on."""
    journal, logs = session.journal, session.directory / "logs"
    try:
        result = story()
    except KeyboardInterrupt:
        display.say(f"interrupted: every finished {display.unit} is kept in {session.directory}")
        journal.append(FINISHED[command], why="interrupted")
    except Exception as error:  # a bug, or a cluster that broke down: say so, keep what there is
        logger.exception("the %s broke off", command)
        display.say(f"error: {one_line(error)}; the full story is in {logs}")
        with contextlib.suppress(OSError):  # it may be the disk that broke it off
            journal.append(FINISHED[command], why=one_line(error))
    else:
        if not session.tracker.flush(FLUSH_TIMEOUT_S):
            display.say("MLflow is behind: it will be brought into line by the next run with --resume")
        return result
    display.say(f"go on with: {resuming_command(command, session.directory, session.address, session.uri)}")
    return None


@contextlib.contextmanager
def experiment_directory(experiment: Experiment, resume: bool) -> Iterator[Path]:
    """The run's directory, held by this process. One that is refused before its first event leaves nothing behind."""
    directory = latest_run(experiment) if resume else new_run(experiment)
    with locked(directory):
        if resume:
            write_record(experiment, directory)
        try:
            yield directory
        except BaseException:
            if not (directory / "journal.jsonl").exists():
                shutil.rmtree(directory)
            raise


def resuming_command(command: Command, directory: Path, address: str | None, uri: str) -> str:
    """What goes on from `directory`: its record says all that the first command said, but no password."""
    where = f" --address {shlex.quote(address)}" if address else ""
    record = shlex.quote(str(directory / "space.yaml"))
    store = " --tracking-uri <with its credentials>" if without_credentials(uri) != uri else ""
    return f"python -m tuner.{command} --space {record}{where}{store} --resume"
