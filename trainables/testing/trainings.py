"""Trainings of any method on a tiny network, in a fraction of a second each."""

from __future__ import annotations

import io
from typing import Any

import torch

from trainables.methods import Method, MethodConfig, build_method, uses_source_head
from trainables.methods.losses import CROSS_ENTROPY, TargetLoss
from trainables.testing.tiny import CPU, TinyConv, TinyTokens, tiny_batch, tiny_context, tiny_network, tiny_pass
from trainables.training.config import TrainingConfig
from trainables.training.loop import Fit

TRAINING = TrainingConfig(num_steps=8, batch_size=6, learning_rate=0.05)


def start(
    config: MethodConfig,
    training: TrainingConfig = TRAINING,
    tokens: bool = False,
    dropout: float = 0.25,
    target_loss: TargetLoss = CROSS_ENTROPY,
) -> Fit:
    """Starts a training of `config`, prepared and at step 0. The network has a source head only if it is used."""
    kind = TinyTokens if tokens else TinyConv
    student = tiny_network(source_head=uses_source_head(config), dropout=dropout, kind=kind)
    context = tiny_context(training.num_steps or 0, compile=training.compile, target_loss=target_loss)
    method = build_method(config, student, context)
    method.prepare(lambda: tiny_pass(tokens))
    return Fit(method, lambda step: tiny_batch(step, tokens=tokens), training, CPU)


def started_method(config: MethodConfig, tokens: bool = False, target_loss: TargetLoss = CROSS_ENTROPY) -> Method:
    """Starts a training as `start` does, and returns its method: its student is in training mode, without dropout."""
    method = start(config, tokens=tokens, dropout=0, target_loss=target_loss).method
    method.student.train()
    return method


def total_losses(fit: Fit) -> list[float]:
    """Sums the loss terms at each step done so far. Terms that are only watched do not count."""
    names = fit.history.terms.keys() - fit.method.diagnostics.keys()
    return [sum(values) for values in zip(*(fit.history.terms[name] for name in sorted(names)), strict=True)]


def through_a_file(state: dict[str, Any]) -> Any:
    """Saves `state`, and reads it back as from a stranger."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
