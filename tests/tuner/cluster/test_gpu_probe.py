"""How a share is resolved before the trials and grows after them, without Ray and without a card."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tuner.tiny import events_in, search_journal, space_of
from trainables.data.images import LabelledImages
from trainables.data.loading import source_key
from trainables.errors import Diverged
from trainables.trial import FoldTraining
from tuner.cluster import gpu_probe as cards
from tuner.cluster.free_gpu import NoGpuFree
from tuner.cluster.gpu_probe import PROBED_STEPS, probe_gpu_memory, resolve_share, retry_with_larger_share
from tuner.cluster.tasks import GpuOutOfMemory, WorkerFailed
from tuner.cluster.trainable import ASSUMED_CONTEXT_BYTES, COMPILE_THREADS
from tuner.experiment.settings import ResourceSettings
from tuner.record.events import ShareGrown
from tuner.record.journal import SearchJournal, open_search_journal
from tuner.resources.gpu_memory import GIB, GpuMemoryNeed
from tuner.resources.share import Capacity, Share, share_of

NEED = GpuMemoryNeed(int(1.4 * GIB), 0, GIB // 2, 80 * GIB)


def auto(*nodes: Capacity) -> Share:
    return share_of(list(nodes or (Capacity(64, 1),)), ResourceSettings(gpus="auto"), "auto")


class FakeCluster:
    """Probes nothing: gives what is said of a kind of card, or raises it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.needs: dict[str, GpuMemoryNeed | Exception] = {"": NEED}
        self.asked: list[tuple[str, float]] = []
        self.free: float | None = 1.0
        monkeypatch.setattr(cards, "free_part", self.free_part)
        monkeypatch.setattr(cards, "as_completed", self.as_completed)
        monkeypatch.setattr(cards, "put_shared", lambda value: value)

    @contextlib.contextmanager
    def free_part(self, share: Share, accelerator: str, wait_s: float) -> Iterator[tuple[float, str]]:
        if self.free is None:
            raise NoGpuFree(f"no GPU became free within {wait_s:g} s")
        yield self.free, f"room for {accelerator}"

    def as_completed(
        self, task: Any, jobs: list[Any], share: Share, accelerator: str, room: str
    ) -> Iterator[GpuMemoryNeed]:
        assert task is probe_gpu_memory
        assert room == f"room for {accelerator}"
        self.asked.append((accelerator, share.gpus))
        for _ in jobs:
            need = self.needs[accelerator]
            if isinstance(need, Exception):
                raise need
            yield need


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    return FakeCluster(monkeypatch)


@pytest.fixture
def journal(tmp_path: Path) -> SearchJournal:
    return search_journal(tmp_path)


def resolve(share: Share, journal: SearchJournal) -> Share:
    return resolve_share(share, [space_of()], {}, 2, journal)


class TestSettled:
    def test_measures_on_a_whole_card_and_says_so_in_a_line(self, fake: FakeCluster, journal: SearchJournal) -> None:
        share = resolve(auto(), journal)
        assert (share.gpus, share.concurrency, share.context) == (1 / 37, 37, 0.5 / 80)
        assert share.note == "resources.gpus auto: a step needs 1.9 GiB of 80.0 GiB; 0.027, 37 trials on each GPU"
        assert fake.asked == [("", 1.0)]
        (event,) = events_in(journal.path)
        assert (event["event"], event["gpus"], event["step_bytes"]) == ("share_measured", NEED.gpus, NEED.step_bytes)

    def test_is_not_measured_again_by_a_search_that_goes_on(self, fake: FakeCluster, journal: SearchJournal) -> None:
        resolve(auto(), journal)
        journal.append(ShareGrown(gpus=0.5, reason="full"))
        again = resolve(auto(), open_search_journal(journal.directory))
        assert len(fake.asked) == 1
        assert (again.gpus, again.concurrency, again.context) == (0.5, 2, 0.5 / 80)
        assert again.note == "resources.gpus auto: as measured before; 0.5, 2 trials on each GPU"

    def test_each_of_several_kinds_has_its_own(self, fake: FakeCluster, journal: SearchJournal) -> None:
        fake.needs = {"H100": NEED, "T4": GpuMemoryNeed(int(1.4 * GIB), 0, GIB // 2, 16 * GIB)}
        nodes = Capacity(16, 1, accelerator_type="H100"), Capacity(8, 1, accelerator_type="T4"), Capacity(8, 0)
        for share in (resolve(auto(*nodes), journal), resolve(auto(*nodes), open_search_journal(journal.directory))):
            assert (share.gpus, share.concurrency) == (1 / 7, 16 + 7)
            by_kind = {each.accelerator: (each.gpus, each.concurrency, each.context) for each in share.by_kind()}
            assert by_kind == {"H100": (1 / 16, 16, 0.5 / 80), "T4": (1 / 7, 7, 0.5 / 16)}
            assert share.note.endswith("; 0.0625, 16 trials on each H100; 0.143, 7 trials on each T4")
        assert [kind for kind, _ in fake.asked] == ["H100", "T4"]  # once
        assert [event["accelerator"] for event in events_in(journal.path)] == ["H100", "T4"]

    def test_what_grew_on_one_kind_has_grown_on_that_alone(self, fake: FakeCluster, journal: SearchJournal) -> None:
        fake.needs = {"H100": NEED, "T4": GpuMemoryNeed(int(1.4 * GIB), 0, GIB // 2, 16 * GIB)}
        nodes = Capacity(16, 1, accelerator_type="H100"), Capacity(8, 1, accelerator_type="T4")
        resolve(auto(*nodes), journal)
        journal.append(ShareGrown(gpus=0.5, reason="full", accelerator="T4"))
        assert (journal.history.gpus_on("T4"), journal.history.gpus_on("H100")) == (0.5, NEED.gpus)
        again = resolve(auto(*nodes), open_search_journal(journal.directory))
        assert [each.gpus for each in again.by_kind()] == [1 / 16, 0.5]

    def test_kinds_of_which_one_is_unknown_share_the_largest(self, fake: FakeCluster, journal: SearchJournal) -> None:
        fake.needs["T4"] = GpuMemoryNeed(int(1.4 * GIB), 0, GIB // 2, 16 * GIB)
        share = resolve(auto(Capacity(16, 1), Capacity(8, 1, accelerator_type="T4")), journal)
        assert (share.gpus, share.concurrency, share.kinds) == (1 / 7, 14, ())
        assert "of 16.0 GiB" in share.note

    def test_what_others_hold_is_left_to_them(self, fake: FakeCluster, journal: SearchJournal) -> None:
        fake.needs = {"": replace(NEED, others_bytes=20 * GIB)}
        share = resolve(auto(), journal)
        assert (share.gpus, share.others) == (1 / 28, 0.25)
        assert "a step needs 1.9 GiB of 80.0 GiB, of which others hold 20.0; " in share.note
        again = resolve(auto(), open_search_journal(journal.directory))
        assert again.others == 0.25

    def test_where_no_gpu_is_free_it_is_measured_in_a_part_of_one(
        self, fake: FakeCluster, journal: SearchJournal
    ) -> None:
        fake.free = 0.5
        share = resolve(auto(), journal)
        assert fake.asked == [("", 0.5)]
        assert "of 80.0 GiB (measured in 0.5 of one, as none was free); " in share.note

    def test_where_no_part_of_one_is_free_it_is_a_quarter(self, fake: FakeCluster, journal: SearchJournal) -> None:
        fake.free = None
        share = resolve(auto(), journal)
        assert (share.gpus, share.is_auto, fake.asked) == (0.25, True, [])
        why = "not measured: no GPU became free within 60 s"
        assert share.note == f"resources.gpus auto: 0.25, 4 trials on each GPU, {why}"
        assert events_in(journal.path) == []

    def test_nodes_that_do_not_tell_their_cards_are_said(self, fake: FakeCluster, journal: SearchJournal) -> None:
        assert "(measured on one of 2 nodes); " in resolve(auto(Capacity(8, 1), Capacity(8, 1)), journal).note

    @pytest.mark.parametrize("error", [WorkerFailed("RuntimeError: the worker has no GPU"), MemoryError("full")])
    def test_what_cannot_be_measured_gets_a_whole_card(
        self, fake: FakeCluster, journal: SearchJournal, error: Exception
    ) -> None:
        fake.needs = {"": error}
        share = resolve(auto(), journal)
        assert (share.gpus, share.is_auto) == (1, True)
        assert share.note == f"resources.gpus auto: a whole GPU for each trial, as none could be measured: {error}"
        assert events_in(journal.path) == []  # the next command tries again

    @pytest.mark.parametrize("nodes", [[Capacity(2, 0)], [Capacity(2, 1)]])
    def test_a_number_and_a_cpu_stay_as_they_are(
        self, fake: FakeCluster, journal: SearchJournal, nodes: list[Capacity]
    ) -> None:
        share = share_of(nodes, ResourceSettings(gpus=0.5), "auto")
        assert resolve(share, journal) is share
        assert fake.asked == []


class TestWithRoom:
    def test_goes_on_with_more_of_a_card(self, journal: SearchJournal) -> None:
        given: list[tuple[float, int]] = []

        def run(share: Share) -> None:
            given.append((share.gpus, share.concurrency))
            if share.gpus < 0.5:
                raise GpuOutOfMemory("CUDA out of memory", share.gpus)

        retry_with_larger_share(auto().sized_for(0.1), journal, run, trial=3)
        assert given == [(0.1, 10), (0.2, 5), (0.5, 2)]
        assert [(e["gpus"], e["trial"]) for e in events_in(journal.path)] == [(0.2, 3), (0.5, 3)]

    def test_goes_on_from_the_share_that_was_spread_over_few_jobs(self, journal: SearchJournal) -> None:
        given: list[float] = []

        def run(share: Share) -> None:
            spread = max(share.gpus, 0.5)
            given.append(spread)
            if spread < 1:
                raise GpuOutOfMemory("CUDA out of memory", spread)

        retry_with_larger_share(auto().sized_for(0.1), journal, run)
        assert given == [0.5, 1]

    @pytest.mark.parametrize("share", [auto(), Share(1, 0.25, 4)])
    def test_a_whole_card_and_a_number_do_not_grow(self, journal: SearchJournal, share: Share) -> None:
        def run(share: Share) -> None:
            raise GpuOutOfMemory("CUDA out of memory", share.gpus)

        with pytest.raises(GpuOutOfMemory):
            retry_with_larger_share(share, journal, run)
        assert events_in(journal.path) == []


class FakeCard:
    """80 GiB in numbers; a probe takes what `takes` says, of which `stays` are images, beside a context of 1 GiB.

    Processes of others hold `others`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stays, self.reserved, self.others = 0, 0, 0
        self.takes: list[int | Exception] = []
        self.steps: list[tuple[int, int]] = []
        monkeypatch.setattr(cards, "default_device", lambda: torch.device("cuda"))
        monkeypatch.setattr(cards, "FoldTraining", self.fold_training)
        monkeypatch.setattr(cards.gc, "collect", lambda: None)  # all that a test run has made
        for name in ("empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda: None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction: None)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="80"))
        monkeypatch.setattr(cards, "bytes_in_use", lambda: {"GPU-24": 7 * GIB, "GPU-80": self.others})
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: self.reserved)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: self.reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: self.stays)
        free = 79 * GIB
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free - self.others - self.reserved, 80 * GIB))

    def fold_training(self, config: Any, examples: Any, number: int, fold: Any, device: Any) -> FoldTraining:
        card = self

        class Fold:
            def score_at(self, step: int) -> None:
                card.steps.append((step, len(fold.validation)))
                taken = card.takes.pop(0)
                card.reserved = taken if isinstance(taken, int) else 0
                if isinstance(taken, Exception):
                    raise taken

        return Fold()  # type: ignore[return-value]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    return FakeCard(monkeypatch)


class TestProbe:
    config = space_of(training__eval_batch_size=10).trial_config({"method.gamma_fe": 0.02, "method.alpha": 0.5})
    examples = LabelledImages.of(np.zeros((30, 8, 8, 3), dtype=np.uint8), np.arange(30) % 10, tuple("abcdefghij"))

    def need(self, num_configs: int = 1, gpus: float = 1.0) -> GpuMemoryNeed:
        share = replace(auto(), gpus=gpus)
        return probe_gpu_memory([self.config] * num_configs, {source_key(self.config.data): self.examples}, 2, share)

    def test_takes_the_steps_that_have_the_optimisers_state_and_an_evaluation(self, card: FakeCard) -> None:
        card.takes, card.stays = [3 * GIB], GIB
        assert self.need() == GpuMemoryNeed(2 * GIB, GIB, GIB, 80 * GIB)
        assert card.steps == [(PROBED_STEPS, 10)]

    def test_what_others_hold_is_not_this_processs_context(self, card: FakeCard) -> None:
        card.takes, card.others = [3 * GIB], 16 * GIB
        need = self.need()
        assert (need.context_bytes, need.others_bytes) == (GIB, 16 * GIB)
        assert need.gpus == pytest.approx((1.15 * 3 + 1) / 64)

    def test_compiles_with_all_cores(self, card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
        variable = COMPILE_THREADS
        monkeypatch.setenv(variable, "")  # what it is before is so restored
        monkeypatch.delenv(variable)
        monkeypatch.setattr(os, "cpu_count", lambda: 12)
        card.takes = [3 * GIB]
        self.need()
        assert os.environ[variable] == "12"

    def test_the_greatest_of_several_counts(self, card: FakeCard) -> None:
        card.takes = [3 * GIB, 5 * GIB, 4 * GIB]
        assert self.need(3).step_bytes == 5 * GIB

    def test_one_that_does_not_fit_takes_the_card(self, card: FakeCard) -> None:
        card.takes = [GIB, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB.")]
        assert self.need(2).gpus == 1

    def test_of_a_part_what_others_have_is_not_its_context(self, card: FakeCard) -> None:
        card.takes = [3 * GIB]
        assert self.need(gpus=0.25) == GpuMemoryNeed(3 * GIB, 0, ASSUMED_CONTEXT_BYTES, 80 * GIB)

    def test_one_that_does_not_fit_into_a_part_takes_twice_that(self, card: FakeCard) -> None:
        card.takes = [torch.OutOfMemoryError("CUDA out of memory.")]
        assert self.need(gpus=0.25).step_bytes == 40 * GIB

    def test_divergence_is_no_obstacle(self, card: FakeCard) -> None:
        card.takes = [Diverged(2, "target_label")]
        assert self.need().step_bytes == 0

    def test_what_else_is_raised_is_raised(self, card: FakeCard) -> None:
        card.takes = [RuntimeError("shapes differ")]
        with pytest.raises(RuntimeError, match="shapes differ"):
            self.need()

    def test_a_worker_without_a_card_says_so(self, card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cards, "default_device", lambda: torch.device("cpu"))
        with pytest.raises(RuntimeError, match="the worker has no GPU"):
            self.need()

    def test_memory_in_use_is_told_without_a_context(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Nvml:
            NVMLError = RuntimeError

            def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
                pass

            def nvmlDeviceGetCount(self) -> int:  # noqa: N802
                return 2

            def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
                return index

            def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
                return f"GPU-{handle}"

            def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
                return SimpleNamespace(used=handle * GIB)

        monkeypatch.setattr(cards, "pynvml", Nvml())
        assert cards.bytes_in_use() == {"GPU-0": 0, "GPU-1": GIB}

    def test_without_a_driver_nothing_is_in_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise cards.pynvml.NVMLError(cards.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

        monkeypatch.setattr(cards.pynvml, "nvmlInit", refuse)
        assert cards.bytes_in_use() == {}
