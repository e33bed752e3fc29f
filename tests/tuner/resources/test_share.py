"""A share of a cluster: arithmetic over nodes, without Ray."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.errors import BadInput
from tuner.experiment.settings import ResourceSettings
from tuner.resources.share import Capacity, KindNeed, Share, num_cpus, num_mig_slices, share_of, this_machine, total


def share(nodes: list[tuple[float, float]], concurrency: int | str = "auto", **asked: Any) -> Share:
    return share_of([Capacity(*node) for node in nodes], ResourceSettings(**asked), concurrency)


@pytest.mark.parametrize(
    ("nodes", "asked", "at_once"),
    [
        ([(16, 2)], {"cpus": 1, "gpus": 0.25}, 8),
        ([(4, 2)], {"cpus": 1, "gpus": 0.25}, 4),  # the CPUs are what is short
        ([(16, 1)], {"cpus": 1, "gpus": 0.1}, 10),
        ([(16, 4)], {"cpus": 1, "gpus": 1}, 4),
        ([(2, 0)], {"cpus": 1}, 2),
        ([(3, 0)], {"cpus": 2}, 1),
        ([(1, 0)], {"cpus": 0.1}, 10),
        ([(3, 0), (3, 0)], {"cpus": 2}, 2),  # four cores would be left, but on two nodes
        ([(8, 1), (8, 2), (8, 0)], {"cpus": 1, "gpus": 0.5}, 6),  # nothing on the node without a card
        ([(0, 0), (4, 0)], {"cpus": 1}, 4),
    ],
)
def test_as_many_trials_as_fit(nodes: list[tuple[float, float]], asked: dict[str, float], at_once: int) -> None:
    assert share(nodes, **asked) == Share(asked["cpus"], asked.get("gpus", 0), at_once)


@pytest.mark.parametrize(
    ("gpus", "unit", "at_once", "said"),
    [
        (0.34, 1 / 2, 4, "resources.gpus is 0.34: 2 trials share a GPU, 0.5 each, as no more fit"),
        (0.3, 1 / 3, 6, "resources.gpus is 0.3: 3 trials share a GPU, 0.333 each, as no more fit"),
        (0.6, 1, 2, "resources.gpus is 0.6: a trial has a GPU to itself, as no more fit"),
        (0.3333, 0.3333, 6, ""),
        (0.125, 0.125, 16, ""),
    ],
)
def test_a_fraction_is_of_as_many_trials_as_fit_on_a_gpu(gpus: float, unit: float, at_once: int, said: str) -> None:
    found = share([(16, 2)], cpus=1, gpus=gpus)
    assert (found.gpus, found.concurrency, found.note) == (unit, at_once, said)


def test_without_a_gpu_trials_run_on_the_cpu_and_it_is_said() -> None:
    found = share([(2, 0), (4, 0)], cpus=1, gpus=0.25)
    assert (found.gpus, found.concurrency) == (0, 6)
    assert found.note == "resources.gpus is 0.25, but there is no GPU: trials run on the CPU"


def test_what_a_file_does_not_say_is_what_there_is() -> None:
    assert share([(8, 0)], cpus=1) == Share(1, 0, 8)
    found = share([(8, 0), (8, 2)], cpus=1)
    assert (found.is_auto, found.gpus, found.note) == (True, 1, "")
    assert share([(8, 2)], cpus=1, gpus=0) == Share(1, 0, 8)


@pytest.mark.parametrize("gpus", [2, 1.5, 1.01])
def test_a_trial_trains_on_one_gpu(gpus: float) -> None:
    with pytest.raises(ValidationError, match=r"a share of one GPU \(0 to 1: a trial trains on one\)"):
        ResourceSettings(gpus=gpus)


class TestAuto:
    """A share that is measured: of a whole card until then, and of 1/k for the k trials that fit on one."""

    @pytest.mark.parametrize(
        ("nodes", "least", "concurrency", "gpus", "at_once"),
        [
            ([(64, 2)], 0.06, "auto", 1 / 16, 32),
            ([(64, 2)], 0.34, "auto", 1 / 2, 4),
            ([(64, 2)], 0.51, "auto", 1, 2),
            ([(8, 2)], 0.06, "auto", 1 / 4, 8),  # the CPUs admit no more, so that each gets more of a card
            ([(5, 2)], 0.06, "auto", 1 / 3, 5),
            ([(8, 2), (64, 2)], 0.06, "auto", 1 / 16, 40),  # the node with most CPUs says how many share a card
            ([(64, 2), (64, 0)], 0.06, "auto", 1 / 16, 32),
            ([(64, 2)], 0.06, 6, 1 / 3, 6),
            ([(64, 2)], 0.06, 1, 1, 1),
            ([(64, 2)], 1.0, 5, 1, 2),
        ],
    )
    def test_gives_as_much_as_nobody_else_needs(
        self, nodes: list[tuple[float, float]], least: float, concurrency: int | str, gpus: float, at_once: int
    ) -> None:
        whole = share(nodes, concurrency, gpus="auto")
        assert (whole.gpus, whole.is_auto) == (1, True)
        assert (whole.sized_for(least).gpus, whole.sized_for(least).concurrency) == (gpus, at_once)

    def test_grows_and_never_shrinks(self) -> None:
        quarter = share([(64, 2)], gpus="auto").sized_for(0.25)
        assert quarter.at_least(None) is quarter.at_least(0.1) is quarter
        assert (quarter.at_least(0.5).gpus, quarter.at_least(0.5).concurrency) == (0.5, 4)

    def test_a_number_does_not_grow(self) -> None:
        quarter = share([(64, 2)], gpus=0.25)
        assert not quarter.is_auto
        assert quarter.at_least(0.5) is quarter

    @pytest.mark.parametrize(
        ("num_jobs", "gpus", "at_once"),
        [(1, 1, 8), (3, 1, 8), (8, 1, 8), (9, 1 / 2, 16), (20, 1 / 3, 24), (400, 1 / 8, 64), (None, 1 / 8, 64)],
    )
    def test_of_few_jobs_is_as_large_as_fills_all_cards(self, num_jobs: int | None, gpus: float, at_once: int) -> None:
        eighth = share([(64, 8)], gpus="auto").sized_for(0.125)
        spread = eighth.spread_over(num_jobs)
        assert (spread.gpus, spread.concurrency) == (gpus, at_once)

    def test_spread_over_jobs_it_is_never_less_than_they_need(self) -> None:
        half = share([(64, 2)], gpus="auto").sized_for(0.5)
        assert half.spread_over(100).gpus == 0.5
        fixed = share([(64, 8)], gpus=0.125)
        assert fixed.spread_over(1) is fixed
        assert share([(2, 0)], gpus="auto").spread_over(1).gpus == 0

    def test_without_a_gpu_trials_run_on_the_cpu(self) -> None:
        found = share([(2, 0)], gpus="auto")
        assert (found.gpus, found.concurrency, found.is_auto) == (0, 2, False)
        assert found.note == "resources.gpus is auto, but there is no GPU: trials run on the CPU"

    def test_must_have_cpus_beside_a_card(self) -> None:
        with pytest.raises(BadInput, match="got cpus: 4, gpus: auto"):
            share([(2, 1), (8, 0)], cpus=4, gpus="auto")

    def test_a_node_may_have_a_known_accelerator_type(self) -> None:
        assert Capacity.of({"Resources": {"CPU": 4.0, "GPU": 2.0, "accelerator_type:T4": 1.0}}).accelerator_type == "T4"
        assert Capacity.of({"Resources": {"CPU": 4.0, "GPU": 2.0}}) == Capacity(4, 2)


def test_the_concurrency_asked_for_is_the_most_at_once_of_those_that_fit() -> None:
    for gpus in (None, 0.125, "auto"):
        assert share([(8, 1)], concurrency=3, cpus=1, gpus=gpus).concurrency <= 3
        assert share([(8, 1)], concurrency=32, cpus=1, gpus=gpus).concurrency == (8 if gpus == 0.125 else 1)


class TestOnOtherNodes:
    """A share on a cluster that has grown, or lost nodes."""

    def test_has_other_places_and_the_same_part(self) -> None:
        quarter = share([(8, 1)], gpus=0.25)
        assert [quarter.on([Capacity(8, 1)] * n).concurrency for n in (0, 1, 3)] == [0, 4, 12]
        assert quarter.on([Capacity(8, 0)]).concurrency == 0
        assert quarter.on([Capacity(8, 1)] * 3).gpus == 0.25

    def test_keeps_the_concurrency_asked_for(self) -> None:
        assert share([(8, 0)], concurrency=12, cpus=1).on([Capacity(8, 0)] * 3).concurrency == 12

    def test_an_auto_share_stays_one_without_a_node(self) -> None:
        auto = share([(8, 1)], gpus="auto").sized_for(0.25)
        lost = auto.on([])
        assert (lost.is_auto, lost.concurrency) == (True, 0)
        assert lost.on([Capacity(8, 2)]).concurrency == 8

    def test_most_on_a_node_are_those_of_the_largest(self) -> None:
        assert share([(8, 1)], gpus=0.25).most_on_a_node([Capacity(8, 1), Capacity(2, 4), Capacity(64, 2)]) == 8


class TestKinds:
    """Kinds of GPUs that need different fractions."""

    nodes = (Capacity(16, 1, accelerator_type="H100"), Capacity(8, 1, accelerator_type="T4"))
    needs = (KindNeed("H100", 0.01, 0.005), KindNeed("T4", 0.14, 0.03))

    def auto(self, concurrency: int | str = "auto") -> Share:
        asked = share_of(list(self.nodes), ResourceSettings(gpus="auto"), concurrency)
        return asked.with_kinds(self.needs)

    def test_each_has_as_many_trials_as_fit(self) -> None:
        auto = self.auto()
        assert [(each.accelerator, each.gpus, each.concurrency) for each in auto.by_kind()] == [
            ("H100", 1 / 16, 16),
            ("T4", 1 / 7, 7),
        ]
        assert (auto.gpus, auto.context, auto.concurrency) == (1 / 7, 0.03, 23)
        assert self.auto(concurrency=5).concurrency == 5

    def test_one_that_came_later_needs_as_much_as_the_worst(self) -> None:
        grown = self.auto().on([*self.nodes, Capacity(16, 1, accelerator_type="L4")])
        assert {each.accelerator: each.concurrency for each in grown.by_kind()} == {"H100": 16, "L4": 7, "T4": 7}
        assert grown.concurrency == 30

    def test_few_jobs_are_spread_over_all_of_them(self) -> None:
        spread = self.auto().spread_over(4)
        assert [each.gpus for each in spread.by_kind()] == [0.5, 0.5]
        assert self.auto().spread_over(None) == self.auto()

    def test_all_of_them_grow_and_stay_so_when_jobs_are_spread(self) -> None:
        grown = self.auto().at_least(0.3)
        assert [each.gpus for each in grown.by_kind()] == [1 / 3, 1 / 3]
        assert [each.gpus for each in grown.spread_over(40).by_kind()] == [1 / 3, 1 / 3]
        assert self.auto().at_least(0.1) == self.auto(), "as T4 needs more"

    def test_one_on_whose_nodes_no_trial_fits_is_none(self) -> None:
        """As a head's, which runs no trials, or a node with a GPU and too few CPUs."""
        nodes = [*self.nodes, Capacity(0, 1, accelerator_type="A10"), Capacity(0.5, 4, accelerator_type="L4")]
        auto = self.auto().on(nodes)
        assert [each.accelerator for each in auto.by_kind()] == ["H100", "T4"]
        assert [auto.fits_on(node) for node in nodes] == [True, True, False, False]
        assert share([(8, 1)], gpus=0.25).fits_on(Capacity(8, 1))

    def test_one_kind_is_no_choice(self) -> None:
        auto = share([(8, 1)], gpus="auto")
        assert auto.with_kinds([KindNeed("", 0.25, 0.01)]) == replace(auto.sized_for(0.25), context=0.01)
        assert auto.by_kind() == (auto,)


@pytest.mark.parametrize(("visible", "slices"), [("", 0), ("0,1", 0), ("MIG-1f2e, MIG-3d4c", 2), ("GPU-1f2e", 0)])
def test_slices_of_a_gpu_are_counted_by_their_identifiers(
    monkeypatch: pytest.MonkeyPatch, visible: str, slices: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert num_mig_slices() == slices
    if slices:
        assert this_machine().gpus == slices


@pytest.mark.parametrize(
    ("nodes", "asked"), [([(2, 0)], {"cpus": 4}), ([(2, 0), (2, 0)], {"cpus": 3}), ([(0.5, 1)], {"cpus": 1, "gpus": 1})]
)
def test_a_trial_that_fits_nowhere_is_refused(nodes: list[tuple[float, float]], asked: dict[str, float]) -> None:
    with pytest.raises(
        BadInput, match=r"resources: expected a trial that fits on a node \(largest: .*\), got cpus: "
    ) as bad:
        share(nodes, **asked)
    assert f"cpus: {asked['cpus']}" in str(bad.value)


def test_the_nodes_together() -> None:
    assert str(total([Capacity(2, 0), Capacity(8, 2)])) == "10 CPUs and 2 GPUs on 2 nodes"
    assert str(Capacity(1.5, 0)) == "1.5 CPUs and 0 GPUs on 1 node"


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_a_container_has_no_more_cores_than_its_quota(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert num_cpus(tmp_path) == (cores or len(os.sched_getaffinity(0)))
    assert num_cpus(tmp_path / "without") == len(os.sched_getaffinity(0))
