"""What part of a card a trial gets: arithmetic over many cards and needs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.loops import check_each
from tests.tuner.tiny import space_of
from trainables.data.gpu_pixels import SHARE_OF_FREE_MEMORY
from tuner.resources.gpu_memory import (
    GIB,
    HEADROOM,
    GpuMemoryNeed,
    is_gpu_out_of_memory,
    largest_configs,
    next_larger_share,
    trials_per_gpu,
)

NEEDS = [
    GpuMemoryNeed(int(step * GIB), int(pixels * GIB), int(context * GIB), card * GIB)
    for step, pixels, context, card in itertools.product(
        (0.3, 1.4, 7.0, 39.0), (0, 0.1, 2.0, 9.0), (0.2, 0.6), (8, 16, 80)
    )
]


class TestNeeds:
    def test_as_many_as_share_a_card_fit_on_it_with_headroom(self) -> None:
        def check(need: GpuMemoryNeed) -> None:
            at_once = trials_per_gpu(need.gpus, 1000)
            each = need.card_bytes / at_once
            step = HEADROOM * need.step_bytes + need.context_bytes
            images_stay = need.pixels_bytes <= SHARE_OF_FREE_MEMORY * each
            assert at_once == 1 or step + images_stay * need.pixels_bytes <= each * (1 + 1e-9)

        check_each(NEEDS, check, repr)

    def test_one_more_would_not_fit(self) -> None:
        def check(need: GpuMemoryNeed) -> None:
            more = trials_per_gpu(need.gpus, 1000) + 1
            least = HEADROOM * need.step_bytes + need.context_bytes
            with_images = least + need.pixels_bytes
            assert more * (with_images if need.pixels_bytes <= SHARE_OF_FREE_MEMORY * with_images else least) > (
                need.card_bytes * (1 - 1e-9)
            )

        check_each(NEEDS, check, repr)

    def test_in_words(self) -> None:
        assert str(GpuMemoryNeed(int(1.4 * GIB), 0, GIB // 2, 79 * GIB)) == "a step needs 1.9 GiB of 79.0 GiB"
        assert str(GpuMemoryNeed(8 * GIB, 0, GIB, 8 * GIB)) == "the largest step does not fit into 8.0 GiB"

    def test_a_card_that_is_too_small_is_needed_as_a_whole(self) -> None:
        need = GpuMemoryNeed(8 * GIB, 0, GIB, 8 * GIB)
        assert (need.gpus, need.context) == (1.0, 1 / 8)


class TestTrialsOnACard:
    def test_a_share_is_that_of_a_whole_number_of_trials(self) -> None:
        def check(k: int) -> None:
            assert trials_per_gpu(1 / k, 1000) == k
            assert trials_per_gpu(1 / k + 1e-6, 1000) == max(1, k - 1)
            assert trials_per_gpu(1 / k, k - 1) == max(1, k - 1)

        check_each(range(1, 130), check)

    @pytest.mark.parametrize("least", [0.9, 0.51, 1.0])
    def test_there_is_always_one(self, least: float) -> None:
        assert trials_per_gpu(least, 0) == trials_per_gpu(least, 9) == 1


class TestGrowth:
    def test_at_least_doubles_up_to_a_whole_card(self) -> None:
        def check(k: int) -> None:
            shares = [1 / k]
            while (larger := next_larger_share(shares[-1])) is not None:
                shares.append(larger)
            assert shares[-1] == 1
            assert all(after >= min(1, 2 * before) - 1e-9 for before, after in itertools.pairwise(shares))
            assert len(shares) == 1 + math.floor(math.log2(k))
            assert all(1 / share == pytest.approx(round(1 / share)) for share in shares)

        check_each(range(1, 130), check)


@pytest.mark.parametrize(
    ("said", "is_full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has", True),
        ("AcceleratorError: CUDA error: out of memory", True),
        ("HIP out of memory. Tried to allocate 20.00 MiB.", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        (torch.OutOfMemoryError("in words that nobody knows yet"), True),
        ("RuntimeError: CUDA driver error: out of memory", True),
        ("RuntimeError: Triton Error [CUDA]: out of memory", True),
        ("RuntimeError: MPS backend out of memory (MPS allocated: 9.00 GB)", True),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", True),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("RuntimeError: GET was unable to find an engine to execute this computation", True),
        ("RuntimeError: FIND was unable to find an engine to execute this computation", True),
        ("RuntimeError: Unable to find a valid cuDNN algorithm to run convolution", True),
        ("RuntimeError: cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("RuntimeError: Allocation on device 0 would exceed allowed memory. (out of memory)", True),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`", False),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", False),
        ("MemoryError: Unable to allocate 9.00 GiB for an array", False),
        ("the node ran out of memory, and Ray ended the process", False),
        ("AcceleratorError: CUDA error: device-side assert triggered", False),
    ],
)
def test_a_full_card_is_known_by_what_is_said(said: object, is_full: bool) -> None:
    assert is_gpu_out_of_memory(said) is is_full


class TestLargest:
    def test_numbers_at_their_greatest_words_in_combination(self) -> None:
        space = space_of(
            data__size_px={"choice": [32, 64]},
            training__batch_size={"int": [4, 16]},
            training__learning_rate={"log_uniform": [0.001, 0.1]},
            training__optimizer={"choice": ["sgd", "adamw"]},
            training__precision={"choice": ["fp32", "bf16"]},
            training__schedule={"choice": ["step", "cosine"]},
        )
        configs = largest_configs([space])
        assert {(c.data.size_px, c.training.batch_size, c.training.schedule) for c in configs} == {(64, 16, "step")}
        combined = [(c.training.optimizer, c.training.precision) for c in configs]
        assert combined == [("sgd", "fp32"), ("sgd", "bf16"), ("adamw", "fp32"), ("adamw", "bf16")]

    def test_what_is_the_same_is_probed_once(self) -> None:
        assert len(largest_configs([space_of(), space_of()])) == 1
        assert len(largest_configs([space_of(), space_of(method__alpha=0.2)])) == 2

    def test_combinations_that_cannot_be_are_left_out(self) -> None:
        space = space_of(training__optimizer={"choice": ["sgd", "adamw"]})
        space.fixed["training"] |= {"momentum": 0.0, "nesterov": True}  # which only sgd minds
        assert [config.training.optimizer for config in largest_configs([space])] == ["adamw"]

    def test_there_is_an_end_to_them(self) -> None:
        words = {"choice": ["sgd", "adamw"]}
        space = space_of(training__optimizer=words, training__channels_last={"choice": [True, False]})
        assert len(largest_configs([space], most=3)) == 3
