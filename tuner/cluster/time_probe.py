"""Time probe: times a few steps of a training in workers, as many at once as there are trials at once."""

from __future__ import annotations

from trainables.config import TrialConfig
from trainables.data.examples import Examples
from trainables.data.loading import source_key
from tuner.cluster.tasks import as_completed, put_shared
from tuner.cluster.trainable import ImagesByKey, prepare_process
from tuner.experiment.timing import StepTimes, time_steps
from tuner.resources.share import Share

MAX_PROBES = 16
"""Number of measurements at once, beyond which more places would not change the mean."""


def probe_step_times(config: TrialConfig, images: ImagesByKey, num_folds: int, share: Share) -> StepTimes:
    """Times steps of `config` with the share of a trial, where the trials will run beside each other.

    Raises:
        WorkerFailed: if a worker could not train.
        MemoryError: if the examples do not fit into the object store.
    """
    examples = put_shared(images[source_key(config.data)])
    jobs = [(config, examples, num_folds, share)] * min(share.concurrency, MAX_PROBES)
    return StepTimes.mean(as_completed(_time_steps, jobs, share))


def _time_steps(config: TrialConfig, examples: Examples, num_folds: int, share: Share) -> StepTimes:
    prepare_process(share)
    return time_steps(config, examples, num_folds)
