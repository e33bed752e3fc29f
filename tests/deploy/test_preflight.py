"""The checks on a cluster, as far as they take no cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from deploy import preflight
from deploy.findings import NodeFacts
from deploy.preflight import Probe
from deploy.settings import WORKER_CPUS, WORKER_GPUS, load_settings
from deploy.worker_request import WorkerRequest
from tests.deploy.fakes import begun_run
from tests.tuner.tiny import space_of, write_yaml
from trainables.data import mapped_pixels
from trainables.errors import BadInput, Problem
from tuner.experiment.search_experiment import SearchExperiment
from tuner.resources.share import Capacity


def keys(problems: Any) -> list[str]:
    return [problem.where for problem in problems]


@pytest.mark.parametrize(
    ("gpus", "nodes", "where"),
    [
        (0.25, [Capacity(4, 0), Capacity(4, 1)], []),
        (0, [Capacity(4, 0)], []),
        (0.25, [Capacity(4, 0), Capacity(4, 0)], ["resources.gpus"]),
        (1, [Capacity(0.5, 1), Capacity(4, 0)], ["resources"]),
        (None, [Capacity(4, 0)], []),
    ],
)
def test_gpus_are_compared_with_what_a_trial_asks_for(
    gpus: float | None, nodes: list[Capacity], where: list[str]
) -> None:
    space = space_of(resources={"cpus": 1, "gpus": gpus})
    assert keys(preflight._capacity_problems(space, nodes)) == where


@pytest.mark.parametrize(
    ("resources", "nodes", "awaited"),
    [
        ({"gpus": 0.25}, [Capacity(0, 0)], WorkerRequest(1, cpus=1, gpus=1)),
        ({"cpus": 0.5, "gpus": 1}, [Capacity(0, 0)], WorkerRequest(1, cpus=1, gpus=1)),
        ({"gpus": "auto"}, [Capacity(0, 0)], WorkerRequest(1, cpus=1, gpus=1)),
        ({"gpus": 0}, [Capacity(0, 0)], WorkerRequest(1, cpus=1, gpus=0)),
        ({}, [Capacity(0, 0)], WorkerRequest(1, cpus=1, gpus=0)),
        ({"gpus": 0.25}, [Capacity(0, 0), Capacity(4, 0)], None),
    ],
)
def test_a_cluster_without_workers_is_asked_for_one_on_which_a_trial_fits(
    resources: dict[str, object], nodes: list[Capacity], awaited: WorkerRequest | None
) -> None:
    space = space_of(resources=resources)
    assert preflight._workers_to_await(space, nodes, workers=0, environment={}) == awaited
    problems = preflight._capacity_problems(space, nodes + preflight._capacities_of(awaited))
    assert keys(problems) == ([] if awaited else ["resources.gpus"])


def test_workers_that_are_asked_for_have_the_size_that_the_nodes_say() -> None:
    nodes = [Capacity(4, 0)]
    environment = load_settings(overrides={"worker.cpus": 6, "worker.gpus": 2}).node_environment(WorkerRequest(1, 6, 2))
    awaited = preflight._workers_to_await(space_of(), nodes, workers=3, environment=environment)
    assert awaited == WorkerRequest(3, 6, 2)
    assert preflight._capacities_of(awaited) == [Capacity(6, 2)] * 3


@pytest.mark.parametrize(("gpus", "asked"), [("1", 1), ("8", 1), ("0", 0)])
def test_where_workers_have_gpus_the_one_that_is_waited_for_has_one(gpus: str, asked: int) -> None:
    """Also where the experiment leaves it open: one that began on a worker without would train on CPUs to its end."""
    environment = {WORKER_CPUS: "8", WORKER_GPUS: gpus}
    awaited = preflight._workers_to_await(space_of(), [Capacity(0, 0)], workers=0, environment=environment)
    assert awaited == WorkerRequest(1, 1, asked)


def test_without_a_size_a_trial_fits_on_each_worker() -> None:
    awaited = preflight._workers_to_await(space_of(resources={"gpus": 0.25}), [Capacity(4, 0)], 3, environment={})
    assert awaited == WorkerRequest(3, 1, 1)


S3 = load_settings(overrides={"storage.experiments": "s3://lab/ours", "storage.local": "/scratch"}).node_environment()
NFS = load_settings(overrides={"storage.experiments": "/nfs/runs"}).node_environment()


@pytest.mark.parametrize(
    ("tracking", "environment", "places"),
    [
        ({}, NFS, {"directory": "/nfs/runs/mine"}),
        ({}, S3, {"directory": "/scratch/mine", "mirror": "s3://lab/ours/mine"}),
        ({"directory": "/fast/"}, S3, {"directory": "/fast/mine"}),
        ({"mirror": "s3://a/b"}, NFS, {"directory": "/nfs/runs/mine", "mirror": "s3://a/b/mine"}),
        ({"directory": "s3://a/b/"}, {}, {"directory": "/tmp/experiments/mine", "mirror": "s3://a/b/mine"}),
        ({"directory": "/fast", "mirror": "s3://a/b"}, {}, {"directory": "/fast/mine", "mirror": "s3://a/b/mine"}),
    ],
)
def test_a_job_has_a_folder_of_its_own_where_the_cluster_keeps_experiments(
    tracking: dict[str, str], environment: dict[str, str], places: dict[str, str]
) -> None:
    assert preflight.places_of(tracking, "mine", environment) == places


def test_a_cluster_that_does_not_say_where_experiments_outlive_it_is_no_place_for_them() -> None:
    with pytest.raises(BadInput) as refused:
        preflight.places_of({}, "mine", {})
    assert str(refused.value).startswith("tracking.directory: expected a folder or s3://bucket/prefix that outlives")
    assert str(refused.value).endswith("got neither")


def test_a_name_must_be_new_or_known_as_it_is_meant(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    space = space_of(tracking={"directory": str(directory)})
    assert list(preflight._name_problems(space, "mine", resume=False)) == []
    (problem,) = preflight._name_problems(space, "mine", resume=True)
    assert problem.where == "--resume"
    begun_run(directory)
    assert list(preflight._name_problems(space, "mine", resume=True)) == []
    (problem,) = preflight._name_problems(space, "mine", resume=False)
    assert problem.expected == "a new name, or --resume mine"


def test_what_the_mirror_has_is_known_on_a_new_head(tmp_path: Path) -> None:
    places = {"directory": str(tmp_path / "new" / "mine"), "mirror": f"file://{tmp_path}/mirror/mine"}
    space = space_of(tracking=places)
    (problem,) = preflight._name_problems(space, "mine", resume=True)
    assert problem.got.endswith(f"{places['directory']} or {places['mirror']}")
    begun_run(tmp_path / "mirror" / "mine")
    assert list(preflight._name_problems(space, "mine", resume=True)) == []
    (problem,) = preflight._name_problems(space, "mine", resume=False)
    assert problem.where == "--name"
    (tmp_path / "file").touch()
    space = space_of(tracking=places | {"mirror": f"file://{tmp_path}/file/x"})
    (problem,) = preflight._name_problems(space, "mine", resume=True)
    assert problem.where == "tracking.mirror"


def test_without_any_tracking_address_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert keys(preflight._problems_on_head(space_of())) == ["tracking.uri"]


def test_what_the_head_finds_wrong_with_data_or_store_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(space: object) -> None:
        raise BadInput([Problem("data.root", "a folder", "nothing"), Problem("tracking.uri", "a store", "none")])

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setattr(preflight, "check_experiment", check)
    assert keys(preflight._problems_on_head(space_of())) == ["data.root", "tracking.uri"]


def test_a_probe_leaves_no_file_and_no_empty_folder(tmp_path: Path) -> None:
    directory = tmp_path / "shared" / "mine"
    with preflight._probe_in(directory) as probe:
        assert probe.file.read_text() == probe.token
    assert not directory.exists()
    begun_run(directory)
    with preflight._probe_in(directory):
        pass
    assert [path.name for path in directory.iterdir()] == ["tiny"]


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "mine"
    found = preflight._check_nodes(space_of(tracking={"directory": str(directory)}), nodes=[])
    (problem,) = found.problems
    assert problem.got == f"{directory}: not a directory"


def test_nodes_that_do_not_see_the_folder_or_lack_packages_are_named(tmp_path: Path) -> None:
    probe = Probe(tmp_path / ".probe", "abc")
    facts = [
        NodeFacts("10.0.0.1", "abc", ()),
        NodeFacts("10.0.0.2", None, (), "has GPUs, but none that counts"),
        NodeFacts("10.0.0.3", "abc", ("torch>=99 (there is 2.9)", "timm (there is none)")),
    ]
    found = preflight._findings_of(facts, probe)
    (problem,) = found.problems
    assert str(problem) == (
        f"tracking.directory: expected a folder on storage that all nodes share, got {tmp_path}: "
        "node 10.0.0.2 does not see what the head wrote there"
    )
    assert found.refusals == ("node 10.0.0.3 lacks torch>=99 (there is 2.9), timm (there is none)",)
    assert found.notes == ("node 10.0.0.2 has GPUs, but none that counts",)
    assert preflight._findings_of(facts, None).problems == ()


def test_decoded_images_that_are_sent_by_name_have_to_be_seen_by_every_node(tmp_path: Path) -> None:
    decoded = Probe(tmp_path / "cache" / "images" / ".probe", "xyz")
    facts = [NodeFacts("10.0.0.1", None, (), cached="xyz"), NodeFacts("10.0.0.2", None, ())]
    (problem,) = preflight._findings_of(facts, None, decoded).problems
    assert problem.where == "data"
    assert "TUNER_CACHE" in problem.expected
    assert problem.got == f"{tmp_path}/cache/images: node 10.0.0.2 does not see what the head wrote there"


def test_the_folder_of_decoded_images_is_asked_for_where_they_are_too_large_to_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_of()
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path))
    assert preflight.cache_to_share(space) is None
    monkeypatch.setattr(mapped_pixels, "memory_bytes", lambda: 1000)
    assert preflight.cache_to_share(space) == tmp_path / "images"
    monkeypatch.setenv("TUNER_CACHE_GB", "0")
    assert preflight.cache_to_share(space) is None


def test_weights_are_downloaded_by_the_head_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setattr(preflight, "check_experiment", lambda space: None)
    monkeypatch.setattr(preflight, "fetch_weights", fetched.append)
    space = space_of()
    assert keys(preflight._problems_on_head(space)) == []
    assert fetched == list(dict.fromkeys(config.backbone for config in space.boundary_configs()))

    def unreachable(config: object) -> None:
        raise BadInput(Problem("name", "weights that can be downloaded", "no network"))

    monkeypatch.setattr(preflight, "fetch_weights", unreachable)
    assert keys(preflight._problems_on_head(space)) == ["backbone.name"]


@pytest.fixture
def nodes_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SearchExperiment]:
    """Has the nodes answer with what a function of the probe returns or raises; gives the experiment to check."""

    def nodes_answer(answer: Callable[[Probe | None], list[NodeFacts]], **tracking: str) -> SearchExperiment:
        monkeypatch.setattr(preflight, "_inspect", lambda nodes, probe, decoded: answer(probe))
        return space_of(tracking={"directory": str(tmp_path / "mine"), **tracking})

    return nodes_answer


def test_with_a_mirror_no_node_has_to_see_the_folder(nodes_answer: Callable[..., SearchExperiment]) -> None:
    def answer(probe: Probe | None) -> list[NodeFacts]:
        return [NodeFacts("10.0.0.1", None if probe is None else probe.token, ()), NodeFacts("10.0.0.2", None, ())]

    assert keys(preflight._check_nodes(nodes_answer(answer), []).problems) == ["tracking.directory"]
    space = nodes_answer(answer, mirror="s3://lab/runs")
    assert preflight._check_nodes(space, []) == preflight.NodeFindings()


def test_a_node_that_does_not_answer_in_time_is_a_refusal(nodes_answer: Callable[..., SearchExperiment]) -> None:
    def answer(probe: Probe | None) -> list[NodeFacts]:
        raise ray.exceptions.GetTimeoutError("Get timed out: some object(s) not ready.")

    found = preflight._check_nodes(nodes_answer(answer), [])
    assert found.refusals == ("not every node answers: Get timed out: some object(s) not ready.",)
    assert found.problems == ()


def test_an_experiment_with_mistakes_needs_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_yaml(tmp_path, search__trials=0)
    monkeypatch.setenv("TUNER_EXPERIMENTS", str(tmp_path))
    assert keys(preflight.check_cluster(file, "mine", resume=False).problems) == ["search.trials"]


def test_the_findings_name_the_places_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray, name, lambda *_, **__: None)
    monkeypatch.setattr(preflight, "alive_nodes", lambda: [])
    monkeypatch.setattr(preflight, "_problems_on_head", lambda space: iter(()))
    monkeypatch.setattr(preflight, "cache_to_share", lambda space: None)
    monkeypatch.setattr(preflight, "_inspect", lambda nodes, probe, decoded: [])
    monkeypatch.setenv("TUNER_EXPERIMENTS", f"file://{tmp_path}/store")
    monkeypatch.setenv("TUNER_EXPERIMENTS_LOCAL", f"{tmp_path}/disk")
    found = preflight.check_cluster(write_yaml(tmp_path), "mine", resume=False)
    assert (found.directory, found.mirror) == (f"{tmp_path}/disk/mine", f"file://{tmp_path}/store/mine")


def test_the_check_of_a_rayjob_times_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A head of few CPUs does not train: `search.minutes` may be too few for it, and enough for GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("tuner.experiment.timing.time_steps", None)
    monkeypatch.setattr("tuner.cli.dry_run.time_steps", None)
    loaded: list[SearchExperiment] = []
    monkeypatch.setattr(preflight, "load_images", loaded.append)
    monkeypatch.setattr(preflight, "fetch_weights", lambda backbone: None)
    words = ["--space", str(write_yaml(tmp_path)), "--set", f"tracking.directory={tmp_path}/runs"]
    assert preflight.main([*words, "--set", "search.minutes=0.001"]) == 0
    assert len(loaded) == 1
    assert "nothing is wrong" in capsys.readouterr().out
    assert preflight.main([*words, "--set", "data.size_px=0"]) == 2
    assert preflight.main([*words, "--warm-start", "nowhere"]) == 2, "as the search would, once its workers are there"
    assert "--warm-start: expected an experiment directory" in capsys.readouterr().err
    assert preflight.main([*words, "--resume"]) == 2
    assert "--resume" in capsys.readouterr().err
