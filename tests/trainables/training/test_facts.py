from __future__ import annotations

import pytest

from tests.trainables.methods.contract import start
from trainables.device import processor_name
from trainables.methods.l2 import L2Config
from trainables.methods.smile import SmileConfig
from trainables.training.config import TrainingConfig
from trainables.training.facts import facts_of
from trainables.training.loop import Fit


def finished(method: L2Config | SmileConfig, **settings: object) -> Fit:
    fit = start(method, TrainingConfig.model_validate({"num_steps": 4, "batch_size": 6, **settings}))
    fit.run(until=2)
    fit.run()
    return fit


def test_what_a_training_ran_on() -> None:
    fit = finished(L2Config())
    facts = facts_of(fit)
    assert (facts.device, facts.precision, facts.skipped_steps) == (processor_name(), "fp32", 0)
    assert facts.examples_per_s == pytest.approx(4 * 6 / fit.timed_s)
    assert (facts.folded_norms, facts.num_norms) == (0, 0)


def test_the_precision_is_the_one_that_was_computed() -> None:
    assert facts_of(finished(L2Config(), precision="bf16")).precision == "bf16"


def test_a_training_without_steps_has_no_speed() -> None:
    fit = start(L2Config(), TrainingConfig(num_steps=0, head_init="probe"))
    fit.run()
    assert facts_of(fit).examples_per_s == 0


def test_the_folded_norms_of_a_teacher_are_counted() -> None:
    facts = facts_of(finished(SmileConfig()))
    assert 0 < facts.folded_norms == facts.num_norms
