from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.trainables.methods import references
from tests.trainables.methods.contract import start
from tests.trainables.methods.parity import assert_parity
from tests.trainables.tiny import CPU, TinyTokens, tiny_batch, tiny_context, tiny_network
from trainables.backbones import BackboneFacts, build_network, facts_about
from trainables.backbones.config import BackboneConfig
from trainables.backbones.network import TransferNetwork
from trainables.errors import BadInput
from trainables.methods import check_method
from trainables.methods.l2 import L2, L2Config
from trainables.methods.stoch_norm import StochNorm, StochNorm2d, StochNormConfig, make_stochastic

CHANNELS = [4, 6]

REAL = {"timm": "timm/test_efficientnet", "timm's own norms": "timm/test_byobnet", "traced": "torchvision/resnet18"}
"""Backbones whose BatchNorms are of different kinds."""


def stoch_norm_on(student: TransferNetwork, p: float = 0.5) -> StochNorm:
    return StochNorm(StochNormConfig(p=p), student.train(), tiny_context())


def real_network(name: str, seed: int = 0) -> TransferNetwork:
    return build_network(BackboneConfig(name=name, pretrained=False), 3, seed, False)


def coins_of(method: StochNorm) -> list[list[bool]]:
    return [norm.by_batch_C.tolist() for norm in method.norms]


@pytest.mark.usefixtures("float64")
class TestTheLoss:
    @pytest.mark.parametrize("step", [1, 2, 3])
    @pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
    def test_value_and_gradient_match_the_layers_written_out(self, p: float, step: int) -> None:
        method = stoch_norm_on(tiny_network(), p)
        method._draw(tiny_batch(step))
        theirs = references.stoch_norm(method.student, tiny_batch(step), coins_of(method))
        assert_parity(method.loss(tiny_batch(step)), theirs, method.student)

    def test_without_the_running_statistics_it_is_plain_fine_tuning(self) -> None:
        student = tiny_network()
        plain = L2(L2Config(), copy.deepcopy(student).train(), tiny_context()).loss(tiny_batch())
        assert_close(stoch_norm_on(student, p=1).loss(tiny_batch()), plain, rtol=0, atol=0)


class TestTheCoins:
    def test_depend_on_seed_and_step_alone(self) -> None:
        method, other = stoch_norm_on(tiny_network()), stoch_norm_on(tiny_network(seed=5))
        draws = []
        for step in (3, 8, 3):
            method.loss(tiny_batch(step))
            draws.append(coins_of(method))
        assert draws[0] == draws[2] != draws[1]
        other.loss(tiny_batch(8))
        assert coins_of(other) == draws[1]

    def test_are_one_a_channel(self) -> None:
        method = stoch_norm_on(tiny_network())
        method.loss(tiny_batch())
        assert [len(of_layer) for of_layer in coins_of(method)] == CHANNELS

    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
    def test_show_heads_with_probability_p(self, p: float) -> None:
        method = stoch_norm_on(tiny_network(), p)
        heads = []
        for step in range(1, 301):
            method._draw(tiny_batch(step, count=1))
            heads += [coin for of_layer in coins_of(method) for coin in of_layer]
        assert torch.tensor(heads).double().mean() == pytest.approx(p, abs=0.03)


class TestALayer:
    @pytest.fixture
    def norm(self) -> nn.BatchNorm2d:
        return tiny_network().backbone.stem[1].train()

    @pytest.fixture
    def x(self) -> Tensor:
        return torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1

    @staticmethod
    def layer(norm: nn.BatchNorm2d, coins: list[bool]) -> StochNorm2d:
        layer = StochNorm2d(copy.deepcopy(norm))
        layer.by_batch_C = torch.tensor(coins)
        return layer

    @pytest.mark.parametrize("coins", [[True] * 4, [False] * 4, [True, False, False, True]])
    @pytest.mark.parametrize("momentum", [0.1, None])
    def test_moves_its_statistics_as_batch_norm_does(
        self, norm: nn.BatchNorm2d, x: Tensor, coins: list[bool], momentum: float | None
    ) -> None:
        norm.momentum = momentum
        layer = self.layer(norm, coins)
        layer(x)
        norm(x)
        assert_same_state(layer, norm)

    def test_with_all_heads_is_batch_norm(self, norm: nn.BatchNorm2d, x: Tensor) -> None:
        assert torch.equal(self.layer(norm, [True] * 4)(x), norm(x))

    def test_with_all_tails_is_batch_norm_in_evaluation_before_its_statistics_moved(
        self, norm: nn.BatchNorm2d, x: Tensor
    ) -> None:
        layer, x = self.layer(norm.double(), [False] * 4), x.double()
        # not to the bit: it is made of what the batch's give
        torch.testing.assert_close(layer(x), norm.eval()(x), rtol=1e-13, atol=1e-13)
        assert not torch.equal(layer.running_mean, norm.running_mean)

    @pytest.mark.parametrize("coins", [[True] * 4, [False] * 4, [True, False, False, True]])
    @pytest.mark.parametrize("affine", [True, False])
    def test_gradients_are_those_of_one_normalisation_or_the_other(
        self, x: Tensor, coins: list[bool], affine: bool
    ) -> None:
        """As autograd takes them of the choice between two whole normalisations; a weight of zero among them."""
        norm = nn.BatchNorm2d(4, affine=affine).double()
        norm.running_mean += torch.tensor([0.5, -1.0, 40.0, 0.0])
        norm.running_var *= torch.tensor([0.1, 3.0, 1.0, 500.0])
        if affine:
            norm.weight.data = torch.tensor([1.5, -0.5, 0.0, 2.0], dtype=torch.float64)
            norm.bias.data = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        layer = self.layer(norm, coins)
        upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        results = []
        for module in (layer, norm):
            given = x.double().requires_grad_()
            if module is layer:
                output = layer(given)
            else:
                tails = F.batch_norm(given, norm.running_mean, norm.running_var.clone(), norm.weight, norm.bias)
                output = torch.where(
                    torch.tensor(coins).view(-1, 1, 1),
                    F.batch_norm(given, None, None, norm.weight, norm.bias, True),
                    tails,
                )
            output.backward(upstream)
            results.append([output, given.grad, *(parameter.grad for parameter in module.parameters())])
        torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("coins", [[True] * 4, [False] * 4])
    def test_in_evaluation_is_batch_norm(self, norm: nn.BatchNorm2d, x: Tensor, coins: list[bool]) -> None:
        assert torch.equal(self.layer(norm, coins).eval()(x), norm.eval()(x))


@pytest.mark.parametrize("name", REAL.values(), ids=REAL.keys())
class TestARealNetwork:
    INPUTS = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def test_says_the_same_after_conversion(self, name: str) -> None:
        """In evaluation, and in training where all coins show heads: activations are kept."""
        plain, converted = real_network(name), real_network(name)
        norms = make_stochastic(converted.backbone)
        assert len(norms) == sum(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
        for norm in norms:
            norm.by_batch_C = torch.ones(norm.num_features, dtype=torch.bool)
        for mode in (True, False):
            logits = [n.train(mode)(n.embed(self.INPUTS)).target_logits for n in (plain, converted)]
            assert torch.equal(logits[0], logits[1])

    def test_loads_into_a_network_that_was_never_converted(self, name: str) -> None:
        """Every tensor has the name and the meaning that it has in a plain network, in the order of a plain one."""
        trained = real_network(name)
        method = stoch_norm_on(trained)
        for step in (1, 2):
            batch = tiny_batch(step, count=4)
            sum(method.loss(type(batch)(self.INPUTS, batch.labels, batch.index, step)).values()).backward()
            with torch.no_grad():
                for parameter in trained.parameters():
                    parameter.sub_(parameter.grad, alpha=0.01)
        plain = real_network(name, seed=1)
        assert list(plain.state_dict()) == list(trained.state_dict())
        assert [n for n, _ in plain.named_parameters()] == [n for n, _ in trained.named_parameters()]
        assert [n for n, _ in plain.named_buffers()] == [n for n, _ in trained.named_buffers()]
        plain.load_state_dict(trained.state_dict())
        logits = [n.eval()(n.embed(self.INPUTS)).target_logits for n in (plain, trained)]
        assert torch.equal(logits[0], logits[1])


def test_timms_norms_keep_their_activation() -> None:
    backbone = real_network(REAL["timm"]).backbone
    acts = [type(part.act) for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert nn.Identity in acts
    assert len(set(acts)) > 1
    assert [type(norm.act) for norm in make_stochastic(backbone)] == acts


def test_the_running_statistics_are_trained_from_the_pre_trained_ones() -> None:
    fit = start(StochNormConfig())
    before = fit.method.student.backbone.stem[1].running_mean.clone()
    assert torch.equal(before, tiny_network().backbone.stem[1].running_mean)
    fit.run(until=1)
    assert not torch.equal(fit.method.student.backbone.stem[1].running_mean, before)


@pytest.mark.parametrize("facts", [BackboneFacts.of(TinyTokens(), "tiny"), facts_about("timm/test_vit")])
def test_a_backbone_without_batch_norm_is_refused(facts: BackboneFacts) -> None:
    with pytest.raises(BadInput, match=r"stoch_norm, which needs at least one BatchNorm2d layer"):
        check_method(StochNormConfig(), facts)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_coins_are_the_same_on_a_gpu() -> None:
    host, device = stoch_norm_on(tiny_network()), stoch_norm_on(tiny_network().cuda())
    batch = tiny_batch()
    on_device = type(batch)(batch.inputs.cuda(), batch.labels.cuda(), batch.index.cuda(), batch.step)
    assert_close(device.loss(on_device)["target_label"].to(CPU), host.loss(batch)["target_label"])
    assert coins_of(device) == coins_of(host)


def assert_same_state(got: nn.Module, expected: nn.Module) -> None:
    assert got.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(got.state_dict()[name], tensor), name
