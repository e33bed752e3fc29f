"""A capture that fails, of which the CPU can show what torch does in Python."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.training.test_graph import assert_equal, computed, fit_of
from trainables.methods.l2 import L2
from trainables.training.graph import CudaGraphs, RecordedSteps, log_once
from trainables.types import Batch, LossTerms


class StreamStandIn:
    """A CUDA stream that waits for nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        pass


class CudaStandIn:
    """What torch.cuda.graph calls of CUDA, where the end of a capture fails. `current` is the present stream."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.current = StreamStandIn()
        self.is_capturing = False
        cuda = torch.cuda
        patch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
        for name in ("synchronize", "empty_cache", "graph_pool_handle"):
            patch.setattr(cuda, name, lambda: None)
        patch.setattr(cuda, "Stream", StreamStandIn)
        patch.setattr(cuda, "CUDAGraph", lambda: self)
        patch.setattr(cuda, "current_stream", lambda: self.current)
        patch.setattr(cuda, "stream", lambda stream: OnStream(self, stream))

    def capture_begin(self, *_: object, **__: object) -> None:
        self.is_capturing = True

    def capture_end(self) -> None:
        self.is_capturing = False
        raise RuntimeError("operation failed due to a previous error during capture")


class OnStream:
    """The context torch.cuda.stream. A generator would end, with a return to the stream of before, when it is freed."""

    def __init__(self, cuda: CudaStandIn, stream: StreamStandIn) -> None:
        self.cuda, self.stream = cuda, stream

    def __enter__(self) -> None:
        self.before, self.cuda.current = self.cuda.current, self.stream

    def __exit__(self, *_: object) -> None:
        self.cuda.current = self.before


def test_a_capture_that_failed_leaves_its_stream_and_gives_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of such a capture raises in torch.cuda.graph before it goes back to the stream of before."""
    log_once.cache_clear()
    cuda = CudaStandIn(monkeypatch)
    before = cuda.current

    class Refused(L2):
        is_recordable = True

        def loss(self, batch: Batch) -> LossTerms:
            if cuda.is_capturing:
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().loss(batch)

    recorded, plain = fit_of(Refused), computed(Refused)
    recorded.runner = RecordedSteps(CudaGraphs(torch.device("cuda")))
    recorded.run()
    plain.run()
    assert cuda.current is before
    assert_equal(recorded, plain)
    (message,) = [record.message for record in caplog.records]
    assert message.endswith("computed one by one: operation not permitted when stream is capturing")
