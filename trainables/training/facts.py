"""What a training ran on, for its result."""

from __future__ import annotations

from trainables.device import device_name
from trainables.results import TrainingFacts
from trainables.training.loop import Fit


def facts_of(fit: Fit) -> TrainingFacts:
    """Describes a training that has ended."""
    folded, num_norms = fit.method.folded_norms
    return TrainingFacts(
        device=device_name(fit.device),
        precision=fit.precision,
        examples_per_s=fit.timed_steps * fit.config.batch_size / fit.timed_s if fit.timed_steps else 0.0,
        skipped_steps=fit.scaling.num_skipped,
        folded_norms=folded,
        num_norms=num_norms,
    )
