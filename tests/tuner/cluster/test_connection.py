"""Connecting to Ray, which is replaced: retries, refusals, and room in the object store."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest

from trainables.errors import BadInput
from tuner.cluster import connection
from tuner.cluster.connection import NUM_STARTS, check_store, cluster
from tuner.cluster.local_ray import ray_folder
from tuner.resources.share import Capacity


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise ConnectionError("nobody there\nstack")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    message = r"--address: expected the address of a Ray cluster that answers, got auto: nobody there"
    with pytest.raises(BadInput, match=message), cluster("auto"):
        pass


def test_an_address_at_which_nobody_listens_is_not_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray would try for minutes"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", f"127.0.0.1:{port + 65536}"):
            with pytest.raises(BadInput, match=f"--address: expected .*, got {address}: "), cluster(address):
                pass


class SlowToStart:
    """A Ray of which a part does not come up in time, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int, store_bytes: float = 1e9) -> None:
        self.starts = 0
        self.failures = failures
        monkeypatch.setattr("ray.init", self.init)
        monkeypatch.setattr("ray.shutdown", lambda: None)
        resources = {"CPU": 2.0, "object_store_memory": store_bytes}
        monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": resources}])
        monkeypatch.setattr(os, "environ", os.environ.copy())

    def init(self, **options: Any) -> None:
        self.starts += 1
        self.options, self.environment = options, dict(os.environ)
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if self.starts <= self.failures:
            raise Exception("The current node timed out during startup.")


@pytest.mark.parametrize(("gpus", "told"), [(0, {"num_gpus": 0}), (2, {})])
def test_only_gpus_that_pytorch_knows_are_counted(
    monkeypatch: pytest.MonkeyPatch, gpus: int, told: dict[str, int]
) -> None:
    """Ray counts those of Apple and Intel, too."""
    slow = SlowToStart(monkeypatch, failures=0)
    monkeypatch.setattr(connection, "this_machine", lambda: Capacity(4, gpus))
    with cluster(None):
        assert {key: value for key, value in slow.options.items() if key == "num_gpus"} == told


def test_a_local_cluster_is_of_this_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=0)
    tokens = set()
    for _ in range(2):
        with cluster(None):
            assert slow.environment["RAY_AUTH_MODE"] == "token"
            tokens.add(slow.environment["RAY_AUTH_TOKEN"])
            assert slow.options["address"] == "local"
            assert slow.options["_temp_dir"] == str(ray_folder())
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert len(tokens) == 2


def test_a_cluster_that_is_joined_has_the_token_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=0)
    monkeypatch.setitem(os.environ, "RAY_AUTH_TOKEN", "ours")
    with cluster("auto"):
        assert slow.environment["RAY_AUTH_TOKEN"] == "ours"
        assert "_temp_dir" not in slow.options


def test_a_closed_terminal_is_for_the_driver_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that is blocked when Ray starts its processes stays so in them."""
    slow = SlowToStart(monkeypatch, failures=0)
    with cluster(None):
        assert signal.SIGHUP in slow.blocked
        assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=NUM_STARTS - 1)
    with cluster(None) as nodes:
        assert nodes == [Capacity(2, 0)]
    assert slow.starts == NUM_STARTS


def test_a_machine_on_which_ray_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=99)
    expected = r"expected a machine on which Ray starts, or --address .* \(Ray's logs are in /\S+/session_latest/logs\)"
    with pytest.raises(BadInput, match=rf"^{expected}, got The current node timed out during startup"), cluster(None):
        pass
    assert slow.starts == NUM_STARTS


def test_a_cluster_that_is_joined_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowToStart(monkeypatch, failures=99)
    with pytest.raises(BadInput), cluster("auto"):
        pass
    assert slow.starts == 1


class TestRoomForTheData:
    def test_is_looked_for_when_the_cluster_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        SlowToStart(monkeypatch, failures=0, store_bytes=5e8)
        message = r"data: expected data that fits, .* of 0\.50 GB \(.*data\.size_px.*\), got 0\.60 GB"
        with pytest.raises(BadInput, match=message), cluster(None, data_bytes=600_000_000):
            pass
        with cluster(None, data_bytes=400_000_000):
            pass

    @pytest.mark.parametrize(("stores", "fits"), [([3, 2], True), ([3, 1], False), ([0], False), ([], True)])
    def test_must_be_on_every_node(self, stores: list[int], fits: bool) -> None:
        nodes = [{"Resources": {"CPU": 1.0, "object_store_memory": float(store)}} for store in stores]
        head = {"Resources": {"object_store_memory": 0.0}}  # on which no trial runs
        if fits:
            check_store([*nodes, head], 2)
        else:
            with pytest.raises(BadInput):
                check_store([*nodes, head], 2)
