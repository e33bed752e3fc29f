"""What the contract is tried with: a row or more for each method, and what each becomes at weight zero.

A new method takes part with its defaults at once; a row here is for settings under which more of it is at work
in eight steps. It owes a row in `REDUCTIONS`, or one in `IRREDUCIBLE`.
"""

from __future__ import annotations

from trainables.methods import METHODS, MethodConfig
from trainables.methods.l2 import L2Config
from trainables.methods.mixup import MixupConfig
from trainables.methods.smile import SmileConfig

SETTINGS: dict[str, MethodConfig] = {
    **{name: method.Config() for name, method in METHODS.items()},
    "smile": SmileConfig(ema_period_steps=2),
    "smile, as printed": SmileConfig(formulation="paper", ema_period_steps=2),
    "smile without feature term": SmileConfig(gamma_fe=0, ema_period_steps=2),
    "smile without source head": SmileConfig(gamma_fc=0, ema_period_steps=2),
}

IMAGES_ONLY: frozenset[str] = frozenset()
"""Methods that have no meaning for token sequences."""

REDUCTIONS: dict[str, tuple[MethodConfig, MethodConfig]] = {
    "smile": (SmileConfig(gamma_fe=0, gamma_fc=0, alpha=0.3), MixupConfig(alpha=0.3)),
}
"""Method → its configuration with every weight at zero, and what it must then equal to the bit."""

IRREDUCIBLE: dict[str, str] = {
    L2Config().name: "is what others reduce to",
    MixupConfig().name: "has no weight; its limit α → 0 is tested in test_mixup.py",
}
