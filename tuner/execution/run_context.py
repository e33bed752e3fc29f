"""Context of a running experiment: run directory, cluster, journal and MLflow. A refused experiment leaves no files."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from tuner.cluster.connection import cluster
from tuner.cluster.hardware import inspect_hardware
from tuner.execution.check import check_resumed
from tuner.execution.observer import Observer
from tuner.experiment.search_experiment import Experiment
from tuner.experiment.settings import tracking_key, tracking_uri
from tuner.messages.invocation import command_line
from tuner.messages.redaction import without_credentials
from tuner.messages.wording import one_line
from tuner.record.background import BackgroundSync
from tuner.record.create import latest_run, new_run, write_record
from tuner.record.data_record import keep_inventories
from tuner.record.directory import RunDirectory
from tuner.record.events import ComparisonEnded, Outcome, SearchEnded
from tuner.record.history import ComparisonHistory, SearchHistory
from tuner.record.journal import Journal
from tuner.record.lock import locked
from tuner.record.mirror import Mirror, mirrored
from tuner.record.plugin_record import keep_plugins
from tuner.resources.share import Share, share_of
from tuner.tracking.process import ProjectionProcess
from tuner.tracking.store import StoreAway, prepare_store

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_S = 60.0
"""How long the end of a run waits for MLflow to be in sync if there is no progress."""
CLOSE_TIMEOUT_S = 10.0
"""How long a run that was interrupted or failed waits for MLflow."""

H = TypeVar("H", SearchHistory, ComparisonHistory)
Say = Callable[[str], object]


@dataclass(frozen=True)
class RunContext(Generic[H]):
    """Context of a running experiment.

    `uri` is the MLflow store's, with its credentials; `share` that of each trial.
    """

    directory: RunDirectory
    uri: str
    share: Share
    journal: Journal[H]
    sync: BackgroundSync

    def with_share(self, share: Share) -> RunContext[H]:
        """Returns the same context with another share for each trial."""
        return replace(self, share=share)


SearchContext = RunContext[SearchHistory]


@contextlib.contextmanager
def run_directory(experiment: Experiment, resume: bool, say: Say) -> Iterator[RunDirectory]:
    """Creates the run's directory, or finds the latest one if `resume`, and locks it for the block.

    The directory of a run that is refused before its first event is removed.

    Raises:
        BadInput: if the directory cannot be written or is locked, or the resumed run would train other trials, by other
            plugins or on other data.
    """
    mirror = Mirror.open(experiment.tracking.mirror) if experiment.tracking.mirror else None
    directory = latest_run(experiment, mirror) if resume else new_run(experiment)
    directory.path.mkdir(parents=True, exist_ok=True)  # it may be in the mirror alone
    with locked(directory):
        try:
            if resume:
                if mirror is not None and (note := mirror.pull(directory)):
                    say(note)
                check_resumed(experiment, directory)
                write_record(experiment, directory)
            keep_plugins(directory)
            keep_inventories(experiment, directory)
            yield directory
        except BaseException:
            if not directory.has_begun:
                shutil.rmtree(directory, ignore_errors=True)  # somebody may have removed it
            raise


@contextlib.contextmanager
def open_run(
    experiment: Experiment, directory: RunDirectory, history: H, address: str | None, data_bytes: int, say: Say
) -> Iterator[RunContext[H]]:
    """Opens the context of a checked experiment in its directory, for the block. Its journal is synced to MLflow.

    `history` is an empty one of the experiment's kind; `data_bytes` is the size of the decoded data on each node.

    Raises:
        BadInput: if the store is invalid, the cluster cannot be joined, or its GPUs cannot train. An unreachable store
            is only a message.
    """
    with ExitStack() as stack:
        if experiment.tracking.mirror:
            stack.enter_context(mirrored(Mirror.of(experiment.tracking.mirror), directory, say))
        uri = tracking_uri(experiment.tracking.uri)
        try:
            prepare_store(uri, experiment.name, tracking_key(experiment.tracking.uri))
        except StoreAway as away:
            say(f"MLflow is unreachable, {away.problems[0].got}")
            say("  the search starts without it; runs will be uploaded once it is reachable")
        nodes = stack.enter_context(cluster(address, data_bytes))
        share = share_of(nodes, experiment.resources, experiment.search.concurrency)
        share = inspect_hardware(share, nodes, experiment.as_tree(), is_local=address is None, say=say)
        journal = stack.enter_context(closing(Journal(directory, history)))
        sync = stack.enter_context(synced(journal, uri, experiment.name))
        yield RunContext(directory, uri, share, journal, sync)


@contextlib.contextmanager
def synced(journal: Journal[H], uri: str, experiment_name: str) -> Iterator[BackgroundSync]:
    """Syncs the journal to MLflow in another process, for the block."""
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
    """Records in the journal that the block was interrupted or failed, and raises the exception again.

    A block that finishes records its end itself; what follows that does not change it.
    """
    try:
        yield
    except KeyboardInterrupt:
        if journal.history.ended is None:
            journal.append(ended("interrupted", "interrupted"))
        raise
    except Exception as error:
        if journal.history.ended is None:
            with contextlib.suppress(OSError):  # the disk may be what failed
                journal.append(ended("failed", without_credentials(one_line(error))))
        raise


def search_ended(outcome: Outcome, why: str) -> SearchEnded:
    """Makes the end of a search without a result."""
    return SearchEnded(outcome=outcome, why=why)


def comparison_ended(outcome: Outcome, why: str) -> ComparisonEnded:
    """Makes the end of a comparison without a result."""
    return ComparisonEnded(outcome=outcome, why=why)


def wait_for_mlflow(context: RunContext[H], observer: Observer) -> None:
    """Waits for MLflow to be in sync; says how to sync it if it is not, or if Ctrl-C ends the wait."""
    try:
        is_synced = context.sync.flush(FLUSH_TIMEOUT_S)
    except KeyboardInterrupt:  # the run has ended and is recorded: its result is shown all the same
        is_synced = False
    if not is_synced:
        observer.say(f"MLflow is behind; sync it with: {replaying_command(context.directory, context.uri)}")


def replaying_command(directory: RunDirectory, uri: str) -> str:
    """Returns the command that syncs MLflow with `directory`."""
    return f"{command_line('replay', directory)}{store_flag(uri)}"


def store_flag(uri: str) -> str:
    """Returns the flag that a command needs if the store has a password, which is not on the disk; else ""."""
    return " --tracking-uri <with its credentials>" if without_credentials(uri) != uri else ""
