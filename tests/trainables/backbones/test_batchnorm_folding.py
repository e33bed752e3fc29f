"""A folded network equals the network, for every kind of layer and after every kind of change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.tiny import TinyAffine, TinyConv, TinyTokens, tiny_batch, tiny_network
from trainables.backbones import build_network
from trainables.backbones.batchnorm_folding import FoldedNetwork
from trainables.backbones.config import BackboneConfig
from trainables.backbones.network import TransferNetwork
from trainables.methods.teacher import ema_update, frozen_copy
from trainables.seeding import torch_seeded
from trainables.types import Outputs, SourceOutputs


def uint8_images(num: int = 3, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, size, size), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def itself(network: TransferNetwork, inputs: Tensor) -> SourceOutputs:
    output: Outputs = network(network.embed(inputs))
    return SourceOutputs(output.features, output.pooled, output.source_logits)


def assert_close_outputs(ours: SourceOutputs, theirs: SourceOutputs, rtol: float) -> None:
    """Compares all outputs by their norms."""
    for mine, exact in zip(ours, theirs, strict=True):
        assert (mine is None) == (exact is None)
        if mine is not None:
            assert exact.norm() > 0
            assert (mine - exact).norm() <= rtol * exact.norm()


def num_folded(folded: FoldedNetwork) -> int:
    return len(folded._pairs)


# convolutions that a normalisation alone reads; densenet121 normalises what comes out of a concatenation, too
ARCHITECTURES = {
    "torchvision/resnet18": 20,
    "torchvision/mobilenet_v3_small": 34,
    "torchvision/densenet121": 59,
    "torchvision/googlenet": 57,
    "torchvision/convnext_tiny": 0,
    "timm/efficientnet_lite0": 49,
    "timm/tf_efficientnet_b0": 49,
    "timm/resnet26d": 31,
    "timm/resnetv2_50x1_bit": 0,
}


def network_with_statistics(name: str) -> TransferNetwork:
    """A float64 network whose normalisations have statistics of images of noise, and random scales and shifts."""
    network = build_network(BackboneConfig(name=name, pretrained=False), 3, 0, keep_source_head=False).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # an average of all batches, without the initial value
            with torch_seeded(0, "norm"), torch.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    with torch.no_grad():
        network.train()(network.embed(uint8_images(8)))
    return network


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_says_the_same(name: str) -> None:
    """With statistics that images of noise leave, and not those of a fresh network, which fold into nothing; in
    float64, as what normalisations of noise do to rounding differs from one network to the next."""
    network = network_with_statistics(name)
    teacher = frozen_copy(network)
    folded = FoldedNetwork(teacher)
    assert_close_outputs(folded(uint8_images()), itself(teacher, uint8_images()), rtol=1e-10)
    assert num_folded(folded) == ARCHITECTURES[name]


def test_compiled_it_says_the_same() -> None:
    """In fp32, where its convolutions have met oneDNN before; traced only, without the code generation."""
    name = BackboneConfig(name="timm/efficientnet_lite0", pretrained=False)
    teacher = frozen_copy(build_network(name, 3, 0, keep_source_head=False))
    torch._dynamo.reset()
    with torch.compiler.set_stance("default", force_backend="eager"):
        output = FoldedNetwork(teacher, "default")(uint8_images().float())
    torch._dynamo.reset()
    assert_close_outputs(output, itself(teacher, uint8_images().float()), rtol=1e-4)


@pytest.mark.usefixtures("float64")
class TestATinyNetwork:
    @pytest.mark.parametrize("kind", [TinyConv, TinyAffine, TinyTokens])
    def test_says_the_same_to_the_last_digits(self, kind: type) -> None:
        teacher = frozen_copy(tiny_network(kind=kind))
        inputs = tiny_batch(tokens=kind is TinyTokens).inputs
        folded = FoldedNetwork(teacher)
        assert_close_outputs(folded(inputs), itself(teacher, inputs), rtol=1e-13)
        assert num_folded(folded) == (2 if kind is TinyConv else 0)

    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("affine", [True, False])
    def test_with_and_without_bias_and_scale(self, biased: bool, affine: bool) -> None:
        network = tiny_network()
        network.backbone.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=biased), nn.BatchNorm2d(4, affine=affine), nn.ReLU()
        ).double()
        network.train()(network.embed(tiny_batch().inputs))
        teacher = frozen_copy(network)
        folded = FoldedNetwork(teacher)
        assert_close_outputs(folded(tiny_batch().inputs), itself(teacher, tiny_batch().inputs), rtol=1e-13)
        assert num_folded(folded) == 2

    def test_has_no_normalisation_left_and_the_network_all_of_its_own(self) -> None:
        teacher = frozen_copy(tiny_network())
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
        folded = FoldedNetwork(teacher)
        folded(tiny_batch().inputs)
        assert folded._folded is not None
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded._folded.modules())
        assert teacher.state_dict().keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())

    def test_takes_no_memory_for_what_is_not_folded(self) -> None:
        teacher = frozen_copy(tiny_network())
        folded = FoldedNetwork(teacher)
        folded(tiny_batch().inputs)
        assert folded._folded is not None
        assert folded._folded.source_head.weight is teacher.source_head.weight

    @pytest.mark.parametrize(
        "change",
        [
            lambda teacher, student: ema_update(teacher, student, 0.3),
            lambda teacher, student: teacher.load_state_dict(student.state_dict()),
            lambda teacher, student: teacher.backbone.stem[0].weight.mul_(2),
            lambda teacher, student: teacher.backbone.stage[1].running_var.add_(1),
        ],
        ids=["average", "checkpoint", "a weight", "a statistic"],
    )
    def test_follows_whatever_changes_it(self, change: Callable[..., object]) -> None:
        teacher, inputs = frozen_copy(tiny_network(seed=1)), tiny_batch().inputs
        folded = FoldedNetwork(teacher)
        before = folded(inputs)
        change(teacher, tiny_network(seed=2))
        after = folded(inputs)
        assert_close_outputs(after, itself(teacher, inputs), rtol=1e-13)
        assert not torch.allclose(after.features, before.features)

    def test_the_source_head_is_kept_in_the_type_that_is_computed_in(self) -> None:
        """To the bit as autocast, which would cast it at each call, in place once it has been cast."""
        teacher = frozen_copy(tiny_network()).float()
        inputs, folded = tiny_batch().inputs.float(), FoldedNetwork(teacher)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            first = folded(inputs)
            assert folded._folded is not None
            head = folded._folded.source_head
            assert head.weight.dtype == head.bias.dtype == torch.bfloat16
            assert torch.equal(first.source_logits, teacher.source_head(first.pooled))
            places = [tensor.data_ptr() for tensor in head.parameters()]
            teacher.source_head.weight.mul_(2)
            second = folded(inputs)
            assert torch.equal(second.source_logits, teacher.source_head(second.pooled))
            assert [tensor.data_ptr() for tensor in head.parameters()] == places
        folded(inputs)
        assert head.weight is teacher.source_head.weight

    def test_there_is_no_graph(self) -> None:
        output = FoldedNetwork(frozen_copy(tiny_network()))(tiny_batch().inputs)
        assert not any(tensor.requires_grad for tensor in output if tensor is not None)

    def test_what_is_run_twice_or_read_elsewhere_is_left(self) -> None:
        """A convolution that two normalisations read, and one whose output also goes past its normalisation: only the
        numbers tell of the latter."""
        for kind in (ReadByTwo, ReadPast):
            teacher = frozen_copy(tiny_network(kind=kind))
            folded = FoldedNetwork(teacher)
            assert_close_outputs(folded(tiny_batch().inputs), itself(teacher, tiny_batch().inputs), rtol=1e-13)
            assert num_folded(folded) == 0


class ReadByTwo(TinyConv):
    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Identity()
        self.stem = nn.Conv2d(3, 6, 3)
        self.one, self.other = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.stem(embedded)
        features = self.one(hidden) + self.other(hidden).relu()
        return features, features.mean(dim=(2, 3))


class ReadPast(TinyConv):
    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.stem[0](embedded)
        features = self.stage(self.stem[1](hidden) + hidden)
        return features, features.mean(dim=(2, 3))
