"""The context of a running experiment: its directory, the cluster, the journal and MLflow, opened in an order in which
whatever is refused leaves nothing on the disk."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from tuner.cluster.connection import cluster
from tuner.execution.observer import Observer
from tuner.experiment.search_experiment import Experiment
from tuner.experiment.settings import tracking_uri
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.background import BackgroundSync
from tuner.record.create import check_same_trials, latest_run, new_run, write_record
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, Outcome, SearchEnded
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.record.mirror import Mirror, mirrored
from tuner.resources.share import Share, share_of
from tuner.tracking.process import ProjectionProcess
from tuner.tracking.store import StoreAway, prepare_store

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 60.0
"""How long the end of a run waits for MLflow to have taken everything in."""
CLOSE_TIMEOUT_S = 10.0
"""The same where the run was cut off."""

H = TypeVar("H", SearchHistory, ComparisonHistory)
Say = Callable[[str], object]


@dataclass(frozen=True)
class RunContext(Generic[H]):
    """Everything that a running experiment writes to and runs on. `uri` is the store's, with its credentials."""

    directory: RunDirectory
    uri: str
    share: Share
    journal: Journal[H]
    sync: BackgroundSync

    def with_share(self, share: Share) -> RunContext[H]:
        """The same context with another share for each trial."""
        return replace(self, share=share)


@contextlib.contextmanager
def run_directory(experiment: Experiment, resume: bool, say: Say) -> Iterator[RunDirectory]:
    """Makes or finds the run's directory, and locks it for this process.

    A run that is refused before its first event leaves nothing on the disk.

    Raises:
        BadInput: where it cannot be had, or a resumed run would train other trials.
    """
    mirror = Mirror.open(experiment.tracking.mirror) if experiment.tracking.mirror else None
    directory = latest_run(experiment, mirror) if resume else new_run(experiment)
    directory.path.mkdir(parents=True, exist_ok=True)  # of a run that only the mirror has
    with locked(directory):
        try:
            if resume:
                if mirror is not None and (note := mirror.pull(directory)):
                    say(note)
                check_same_trials(experiment, directory)
                write_record(experiment, directory)
            yield directory
        except BaseException:
            if not directory.has_begun:
                shutil.rmtree(directory)
            raise


@contextlib.contextmanager
def open_run(
    experiment: Experiment, directory: RunDirectory, history: H, address: str | None, data_bytes: int, say: Say
) -> Iterator[RunContext[H]]:
    """Opens a checked experiment in its directory; every event of its journal is carried over to MLflow.

    `history` is an empty one of the experiment's kind; `data_bytes` is what each node must hold of decoded data.

    Raises:
        BadInput: where store or cluster cannot be had. A store that is only away for now can.
    """
    with ExitStack() as stack:
        if experiment.tracking.mirror:
            stack.enter_context(mirrored(Mirror.of(experiment.tracking.mirror), directory, say))
        uri = tracking_uri(experiment.tracking.uri)
        try:
            prepare_store(uri, experiment.name)
        except StoreAway as away:
            say(f"MLflow is unreachable, {away.problems[0].got}")
            say("  the search starts without it; runs will be uploaded once it is reachable")
        nodes = stack.enter_context(cluster(address, data_bytes))
        share = share_of(nodes, experiment.resources, experiment.search.concurrency)
        journal = stack.enter_context(closing(Journal(directory, history)))
        sync = stack.enter_context(synced(journal, uri, experiment.name))
        yield RunContext(directory, uri, share, journal, sync)


@contextlib.contextmanager
def synced(journal: Journal[H], uri: str, experiment_name: str) -> Iterator[BackgroundSync]:
    """Carries the journal over to MLflow, in another process, for the block."""
    projection = ProjectionProcess(uri, experiment_name, journal.directory)
    sync = BackgroundSync(projection)
    journal.listeners.append(lambda event, history: sync.notify())
    try:
        yield sync
    finally:
        sync.close(CLOSE_TIMEOUT_S)
        projection.close()


@contextlib.contextmanager
def end_recorded(journal: Journal[H], ended: Callable[[Outcome, str], SearchEnded | ComparisonEnded]) -> Iterator[None]:
    """Records in the journal that the block was interrupted or failed, and raises on.

    A block that ends by itself has recorded its own end.
    """
    try:
        yield
    except KeyboardInterrupt:
        journal.append(ended("interrupted", "interrupted"))
        raise
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk may be what failed
            journal.append(ended("failed", without_credentials(one_line(error))))
        raise


def search_ended(outcome: Outcome, why: str) -> SearchEnded:
    """The end of a search of which nothing else is known."""
    return SearchEnded(outcome=outcome, why=why)


def comparison_ended(outcome: Outcome, why: str) -> ComparisonEnded:
    """The end of a comparison of which nothing else is known."""
    return ComparisonEnded(outcome=outcome, why=why)


def wait_for_mlflow(context: RunContext[H], observer: Observer) -> None:
    """Waits for MLflow to have taken everything in; says what to do where it has not."""
    if not context.sync.flush(FLUSH_TIMEOUT_S):
        observer.say(f"MLflow is behind; sync it with: {replaying_command(context.directory, context.uri)}")


def replaying_command(directory: RunDirectory, uri: str) -> str:
    """The command that brings MLflow into line with `directory`."""
    return f"python -m tuner.replay {shlex.quote(str(directory))}{store_flag(uri)}"


def store_flag(uri: str) -> str:
    """The flag with which a command has to be given a store whose password is not on the disk."""
    return " --tracking-uri <with its credentials>" if without_credentials(uri) != uri else ""
