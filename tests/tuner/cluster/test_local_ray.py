"""A local Ray is closed to the network and to other users; its folder is fit for sockets."""

from __future__ import annotations

import itertools
import os
import stat
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from ray._private import ray_constants, services

from trainables.errors import BadInput
from tuner.cluster import local_ray as module
from tuner.cluster.local_ray import MAX_FOLDER_BYTES, SOCKET_PATH_BYTES, local_ray, ray_folder


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def short(monkeypatch: pytest.MonkeyPatch, num_bytes: int = 4096) -> None:
    """Pretends that a longer path is short enough: that of a test's folder is long."""
    monkeypatch.setattr(module, "MAX_FOLDER_BYTES", num_bytes)


def mode_of(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_folder_is_of_this_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short(monkeypatch)
    folder = tmp_path / f"ray-{os.getuid()}"
    folder.mkdir(mode=0o777)
    assert ray_folder() == folder / "ray"  # which Ray opens to everybody
    assert mode_of(folder) == 0o700


def test_rays_own_variable_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short(monkeypatch)
    (tmp_path / "ours").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ours"))
    assert ray_folder() == tmp_path / "ours" / f"ray-{os.getuid()}" / "ray"


def test_a_long_path_is_avoided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    folder = ray_folder()
    assert len(os.fsencode(folder)) <= MAX_FOLDER_BYTES
    assert not folder.is_relative_to(long)
    longest = folder / "session_2026-11-29_18-02-37_123456_4194304" / "sockets" / "plasma_store"
    assert len(os.fsencode(longest)) <= SOCKET_PATH_BYTES


@pytest.mark.parametrize("kind", ["missing", "a file", "a link"])
def test_a_folder_that_cannot_be_made_is_avoided(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short(monkeypatch)
    root, second = tmp_path / "root", tmp_path / "second"
    second.mkdir()
    if kind == "a file":
        root.touch()
    elif kind == "a link":
        root.mkdir()
        (root / f"ray-{os.getuid()}").symlink_to(second)
    monkeypatch.setenv("TMPDIR", str(root))
    monkeypatch.setattr(module, "FALLBACK_FOLDERS", (str(second),))
    assert ray_folder() == second / f"ray-{os.getuid()}" / "ray"


def test_a_folder_of_another_user_is_avoided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short(monkeypatch)
    others = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: others)
    monkeypatch.setattr(module, "FALLBACK_FOLDERS", ())
    with pytest.raises(BadInput, match=r"^TMPDIR: expected a folder for Ray's sockets.*: owned by another user$"):
        ray_folder()


def test_every_folder_is_named_if_none_is_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ("x" * 200)).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 200)))
    monkeypatch.setattr(module, "FALLBACK_FOLDERS", (str(tmp_path / "none"),))
    short(monkeypatch, len(str(tmp_path)) + 40)
    with pytest.raises(BadInput) as bad:
        ray_folder()
    assert "a path of " in str(bad.value)
    assert f"{tmp_path}/none/ray-{os.getuid()}: no such file or directory" in str(bad.value)


def test_ray_listens_on_the_loopback_interface() -> None:
    before = ray_constants.ENABLE_RAY_CLUSTER
    with local_ray():
        assert services.get_node_ip_address() == "127.0.0.1"
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert ray_constants.ENABLE_RAY_CLUSTER is before
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ


def test_the_token_is_written_to_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is Ray's client that has it, and forgets it with the cluster."""
    from ray._raylet import AuthenticationTokenLoader

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with local_ray():
        headers = AuthenticationTokenLoader.instance().get_token_for_http_header()
        assert os.environ["RAY_AUTH_TOKEN"] in headers["authorization"]
    assert list(home.iterdir()) == []
    assert not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)


def test_no_ray_without_tokens_is_admitted() -> None:
    """2.52 is the first with RAY_AUTH_MODE."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    rays = [requirement for requirement in map(Requirement, lines) if requirement.name == "ray"]
    assert len(rays) == 2
    assert not any(requirement.specifier.contains("2.51.9") for requirement in rays)
