"""What the contract is tried with: a row or more for each method, and what each becomes at weight zero.

A new method takes part with its defaults at once; a row here is for settings under which more of it is at work
in eight steps. It owes a row in `REDUCTIONS`, or one in `IRREDUCIBLE`.
"""

from __future__ import annotations

from trainables.methods import METHODS, MethodConfig
from trainables.methods.bi_tuning import BiTuningConfig
from trainables.methods.bss import BSSConfig
from trainables.methods.co_tuning import CoTuningConfig
from trainables.methods.cutmix import CutMixConfig
from trainables.methods.delta import DeltaConfig
from trainables.methods.feature_extraction import FeatureExtractionConfig
from trainables.methods.l2 import L2Config
from trainables.methods.l2_sp import L2SPConfig
from trainables.methods.manifold_mixup import ManifoldMixupConfig
from trainables.methods.mixup import MixupConfig
from trainables.methods.reg_sl import RegSLConfig
from trainables.methods.rifle import RifleConfig
from trainables.methods.smile import SmileConfig
from trainables.methods.stoch_norm import StochNormConfig

SETTINGS: dict[str, MethodConfig] = {
    **{name: method.Config() for name, method in METHODS.items()},
    "l2, mixup": L2Config(mixing="mixup", mixing_alpha=0.5),
    "l2, cutmix": L2Config(mixing="cutmix", mixing_alpha=0.5),
    "l2_sp": L2SPConfig(alpha=0.1, beta=0.1),
    "l2_sp of weights, mixup": L2SPConfig(alpha=0.1, include="weights", mixing="mixup"),
    "delta": DeltaConfig(alpha=0.1, attention_images=12, attention_head_steps=20),
    "delta, authors": DeltaConfig(form="authors", alpha=0.1, attention_images=12, attention_head_steps=20),
    "delta of equal channels, mixup": DeltaConfig(alpha=0.1, attention="uniform", mixing="mixup"),
    "bss": BSSConfig(eta=0.1),
    "bss of all values, mixup": BSSConfig(eta=0.1, k=20, mixing="mixup"),
    "rifle": RifleConfig(num_periods=3),
    "rifle, mixup": RifleConfig(num_periods=3, mixing="mixup"),
    "feature_extraction, eval": FeatureExtractionConfig(backbone_mode="eval"),
    "cutmix": CutMixConfig(alpha=0.5, probability=0.7),
    "manifold_mixup, binary": ManifoldMixupConfig(deepest_layer=1, loss="bce_softmax"),
    "reg_sl": RegSLConfig(distance=0.01, distance_growth=2, head_distance=0.5),
    "reg_sl of noisy labels": RegSLConfig(
        distance=0.01, correct_labels_from=0.2, correction_threshold=0.5, reweight_from=0.4
    ),
    "reg_sl of channels, mixup": RegSLConfig(norm="inf_op", distance=0.01, reweight_from=0, mixing="mixup"),
    "reg_sl by penalty": RegSLConfig(form="penalty", distance=0.1),
    "reg_sl by penalty of channels": RegSLConfig(form="penalty", norm="inf_op", distance=0.1),
    "stoch_norm, mixup": StochNormConfig(p=0.2, mixing="mixup"),
    "co_tuning, direct, mixup": CoTuningConfig(relationship="direct", source_logit_scale=0.9, mixing="mixup"),
    "bi_tuning, short queues": BiTuningConfig(queue_length=1, projection_dim=5),
    "smile": SmileConfig(ema_period_steps=2),
    "smile, as printed": SmileConfig(feature_loss="paper", source_loss="paper", ema_period_steps=2),
    "smile, features as printed": SmileConfig(feature_loss="paper", ema_period_steps=2),
    "smile without feature term": SmileConfig(gamma_fe=0, ema_period_steps=2),
    "smile without source head": SmileConfig(gamma_fc=0, ema_period_steps=2),
}

FREEZES_THE_BACKBONE: frozenset[str] = frozenset({"feature_extraction"})
"""Methods that train the target head alone."""

NORMALISES_BY_THE_BATCH: frozenset[str] = frozenset({"bi_tuning"})
"""Methods whose frozen network is in training mode, on purpose."""

REDUCTIONS: dict[str, tuple[MethodConfig, MethodConfig]] = {
    "l2_sp": (L2SPConfig(alpha=0, beta=0), L2Config()),
    "delta": (DeltaConfig(alpha=0, beta=0), L2Config()),
    "bss": (BSSConfig(eta=0), L2Config()),
    "reg_sl": (RegSLConfig(distance=1e30, distance_growth=1, head_distance=1e30), L2Config()),
    "stoch_norm": (StochNormConfig(p=1), L2Config()),
    "co_tuning": (CoTuningConfig(trade_off=0), L2Config()),
    "bi_tuning": (BiTuningConfig(eta=0), L2Config()),
    "rifle": (RifleConfig(num_periods=1), L2Config()),
    "manifold_mixup": (ManifoldMixupConfig(deepest_layer=0, alpha=0.3), MixupConfig(alpha=0.3)),
    "smile": (SmileConfig(gamma_fe=0, gamma_fc=0, alpha=0.3), MixupConfig(alpha=0.3)),
}
"""Method → its configuration with every weight at zero, and the configuration that it then equals to the bit."""

IRREDUCIBLE: dict[str, str] = {
    L2Config().name: "is what others reduce to",
    FeatureExtractionConfig().name: "trains the head alone, which no weight turns into anything else",
    CutMixConfig().name: "has no weight; an empty box is tested in test_cutmix.py",
    MixupConfig().name: "has no weight; its limit α → 0 is tested in test_mixup.py",
}
