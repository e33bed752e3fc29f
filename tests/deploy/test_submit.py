"""The command against a cluster that is played: what it sends, what it says, and how it ends."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from deploy import prepare as errand
from deploy import submit
from deploy.findings import Findings
from deploy.job_server import Access, Job, Refused
from deploy.package import project_files
from deploy.results import pack
from tests.tuner.tiny import add_trial, write_yaml
from trainables.errors import BadInput, Problem
from tuner.record.journal import Journal

JOB = Job("mine", "mine", "RUNNING", "ada", "tiny.yaml", "tiny", "/nowhere/mine", "", "", 1000.0, None, None)


@dataclass
class Played:
    """Stands in for `Cluster`, and remembers what was asked of it."""

    access: Access
    known: ClassVar[list[Job]] = []
    findings: ClassVar[Findings] = Findings(nodes=3, cpus=8, gpus=2)
    ends: ClassVar[str] = "SUCCEEDED"
    breaks: ClassVar[BaseException | None] = None
    sent: ClassVar[list[dict[str, Any]]] = []
    helped: ClassVar[list[list[str]]] = []
    results: ClassVar[str] = ""
    taken: set[str] = field(default_factory=set)

    def jobs(self) -> list[Job]:
        return self.known

    def newest(self, name: str) -> Job:
        jobs = [job for job in self.known if job.name == name]
        if not jobs:
            raise BadInput(Problem("NAME", "a job", repr(name)))
        return jobs[-1]

    def free_id(self, name: str) -> str:
        return f"{name}-2" if self.known else name

    def helper(self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str]) -> str:
        self.helped.append(shlex.split(entrypoint))
        return self.results or f"hello\n{self.findings.line()}\n"

    def submit(
        self, entrypoint: str, submission_id: str, archive: Path, environment: dict[str, str], metadata: dict[str, str]
    ) -> None:
        with zipfile.ZipFile(archive) as file:
            files = {name: file.read(name) for name in file.namelist()}
        self.sent.append({"entrypoint": entrypoint, "files": files, "environment": environment, "metadata": metadata})
        job = replace(JOB, id=submission_id, **{key: metadata[key] for key in ("name", "user", "space", "directory")})
        self.known.append(job)

    def follow(self, submission_id: str, show: Callable[[str], None]) -> None:
        show("fold 1\n")
        if self.breaks is not None:
            raise self.breaks
        self._ends(submission_id)

    def log(self, submission_id: str) -> str:
        return "fold 1\n"

    def stop(self, submission_id: str) -> None:
        type(self).ends = "STOPPED"
        self._ends(submission_id)

    def _ends(self, submission_id: str) -> None:
        self.known[:] = [replace(job, status=self.ends) if job.id == submission_id else job for job in self.known]


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Played]:
    monkeypatch.setattr(submit, "Cluster", Played)
    monkeypatch.setattr(errand, "check_experiment", lambda space: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "known": [],
        "sent": [],
        "helped": [],
        "ends": "SUCCEEDED",
        "breaks": None,
        "results": "",
    }.items():
        monkeypatch.setattr(Played, name, value)
    monkeypatch.setattr(Played, "findings", Findings(nodes=3, cpus=8, gpus=2))
    write_yaml(tmp_path, tracking={"directory": str(tmp_path / "shared")})
    return Played


def give(*words: str) -> int:
    return submit.main([*words, "--address", "http://head:8265"])


def submitted(*words: str) -> int:
    return give("--space", "tiny.yaml", *words)


def test_a_search_is_sent_followed_and_found(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted("--name", "mine", "--tracking-uri", "http://mlflow:5000") == 0
    (job,) = cluster.sent
    assert job["entrypoint"] == "exec python -m tuner.search --space space.yaml --address auto"
    assert job["environment"] == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert job["files"].keys() == {*project_files(), "space.yaml"}
    assert job["metadata"]["name"] == "mine"
    assert job["metadata"]["directory"].endswith("/shared/mine")
    out = capsys.readouterr().out
    said = out.index(f"sending {len(job['files'])} files, ")
    assert said < out.index("8 CPUs and 2 GPUs on 3 nodes") < out.index("fold 1\n") < out.index("mine succeeded")
    assert "python -m deploy.submit result mine --address http://head:8265" in out


def test_flags_that_change_the_run_reach_it(cluster: type[Played]) -> None:
    assert submitted("--smoke", "--trials", "3", "--set", "training.num_steps=9") == 0
    (job,) = cluster.sent
    assert job["entrypoint"].endswith("--smoke")
    text = job["files"]["space.yaml"].decode()
    assert "trials: 3" in text
    assert "num_steps: 9" in text


@pytest.mark.parametrize(
    ("flags", "has", "awaited", "line"),
    [
        (
            [],
            {"nodes": 1},
            {"workers": 1, "cpus": 2, "gpus": 1},
            "\nno worker is there yet: mine asks for a worker with at least 2 CPUs and 1 GPUs, and waits before",
        ),
        (
            ["--workers", "3"],
            {"nodes": 3, "cpus": 8},
            {"workers": 3, "cpus": 8, "gpus": 1},
            "\nmine asks for 3 workers, each with at least 8 CPUs and 1 GPUs, and waits before it searches\n",
        ),
    ],
)
def test_workers_that_are_to_come_are_waited_for(
    cluster: type[Played],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    has: dict[str, int],
    awaited: dict[str, int],
    line: str,
) -> None:
    cluster.findings = Findings(**has, awaited=awaited)
    assert submitted("--name", "mine", *flags) == 0
    wait, _, search = cluster.sent[0]["entrypoint"].partition(" -- ")
    assert wait == f"exec python -m deploy.workers {' '.join(f'--{key} {value}' for key, value in awaited.items())}"
    assert search == "python -m tuner.search --space space.yaml --address auto"
    assert cluster.helped[0][-2:] == (flags or ["--job", "mine"])
    assert line in capsys.readouterr().out


def test_nothing_secret_is_in_what_is_sent(cluster: type[Played], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "pa55word")
    assert submitted() == 0
    assert "pa55word" not in repr(cluster.sent) + repr(cluster.helped)


def test_bad_input_is_said_in_full_before_a_cluster_is_asked(
    cluster: type[Played], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "Cluster", None)
    assert submitted("--set", "search.trials=0", "--set", "training.stepps=1") == 2
    err = capsys.readouterr().err
    assert "search.trials" in err
    assert "training.stepps" in err
    assert "2 problems; nothing was started" in err
    assert submitted("--name", "../mine") == 2


@pytest.mark.parametrize(
    ("findings", "code", "line"),
    [
        (Findings(ray="2.9.0"), 3, "Ray is 2.9.0 there and"),
        (Findings(python="3.8.1"), 3, "Python is 3.8.1 there and"),
        (Findings(refusals=["node 10.0.0.7 lacks timm>=1.0.15 (there is none)"]), 3, "node 10.0.0.7 lacks timm"),
        (
            Findings(problems=[{"where": "resources.gpus", "expected": "0", "got": "0.25, and no GPU", "file": "s"}]),
            2,
            "tiny.yaml on http://head:8265: resources.gpus: 0, got 0.25, and no GPU",
        ),
    ],
)
def test_a_cluster_that_cannot_run_it_is_not_sent_it(
    cluster: type[Played], capsys: pytest.CaptureFixture[str], findings: Findings, code: int, line: str
) -> None:
    cluster.findings = findings
    assert submitted() == code
    assert line in capsys.readouterr().err
    assert not cluster.sent


def test_a_patch_version_may_differ(cluster: type[Played]) -> None:
    cluster.findings = Findings(python=".".join([*Findings().python.split(".")[:2], "99"]), nodes=1)
    assert submitted() == 0


def test_a_dry_run_looks_and_starts_nothing(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted("--dry-run", "--json") == 0
    assert len(cluster.helped) == 1
    assert not cluster.sent
    assert json.loads(capsys.readouterr().out)["cluster"]["gpus"] == 2


@pytest.mark.parametrize(("ends", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 4)])
def test_how_the_job_ends_is_how_the_command_ends(cluster: type[Played], ends: str, code: int) -> None:
    cluster.ends = ends
    assert submitted("--name", "mine") == code
    assert give("status", "mine") == code
    assert give("logs", "-f", "mine") == code


def test_ctrl_c_lets_go_of_it_and_says_how_to_come_back(
    cluster: type[Played], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.breaks = KeyboardInterrupt()
    assert submitted("--name", "mine") == 0
    out = capsys.readouterr().out
    assert "mine goes on without this command" in out
    for verb in ("logs -f", "status", "stop", "result"):
        assert f"python -m deploy.submit {verb} mine --address http://head:8265" in out
    assert cluster.known[0].status == "RUNNING"


def test_a_cluster_that_is_gone_is_exit_code_3_with_how_to_go_on(
    cluster: type[Played], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.breaks = Refused("the cluster no longer answers")
    assert submitted("--name", "mine") == 3
    assert "python -m deploy.submit --space tiny.yaml --resume mine" in capsys.readouterr().err


def test_without_follow_it_is_left_alone(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted("--name", "mine", "--no-follow", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "RUNNING"


def test_a_name_is_used_once(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(replace(JOB, status="SUCCEEDED"))
    assert submitted("--name", "mine") == 2
    assert "--name: a new name, or --resume mine" in capsys.readouterr().err


def test_going_on_takes_a_new_id_and_the_same_folder(cluster: type[Played]) -> None:
    cluster.known.append(replace(JOB, status="STOPPED"))
    assert submitted("--resume", "mine", "--trials", "9") == 0
    (job,) = cluster.sent
    assert job["entrypoint"].endswith("--resume")
    assert job["metadata"]["directory"].endswith("/shared/mine")
    assert cluster.known[-1].id == "mine-2"
    assert cluster.helped[0][-1] == "--resume"


def test_what_still_runs_is_not_gone_on_with(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(JOB)
    assert submitted("--resume", "mine") == 2
    assert "a job that has ended or was stopped, got 'mine', which is running" in capsys.readouterr().err


def test_the_list_shows_everybodys_and_the_best_where_the_folder_is_seen(
    cluster: type[Played], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path / "shared" / "mine")
    cluster.known += [replace(JOB, directory=str(tmp_path / "shared" / "mine")), replace(JOB, name="hers", user="bea")]
    assert give("list", "--json") == 0
    mine, hers = json.loads(capsys.readouterr().out)
    assert (mine["name"], mine["user"], mine["best_top1"]) == ("mine", "ada", 0.6)
    assert (hers["name"], hers["user"], "best_top1" in hers) == ("hers", "bea", False)
    assert give("list") == 0
    out = capsys.readouterr().out
    assert "0.6000" in out
    assert "bea" in out


def test_stop_says_how_to_go_on(cluster: type[Played], capsys: pytest.CaptureFixture[str]) -> None:
    cluster.known.append(JOB)
    assert give("stop", "mine") == 0
    assert (
        "mine is stopped; go on with: python -m deploy.submit --space tiny.yaml --resume mine"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("verb", ["status", "logs", "stop", "result"])
def test_a_job_that_is_not_there_is_bad_input(cluster: type[Played], verb: str) -> None:
    assert give(verb, "yours") == 2
    with pytest.raises(SystemExit) as refused:
        give(verb, "../yours")
    assert refused.value.code == 2


def begun(directory: Path) -> Path:
    run = directory / "tiny" / "20261124-100000"
    journal = Journal(run)
    add_trial(journal, 0, [0.5, 0.7])
    journal.close()
    (run / "model").mkdir()
    (run / "model" / "weights.pt").write_bytes(b"weights")
    return run


def test_results_are_copied_from_a_folder_that_both_see(
    cluster: type[Played], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path / "shared" / "mine")
    cluster.known.append(replace(JOB, directory=str(tmp_path / "shared" / "mine")))
    assert give("result", "mine") == 0
    assert (tmp_path / "results" / "mine" / "model" / "weights.pt").read_bytes() == b"weights"
    assert not cluster.helped
    assert "complete by SHA-256; the search has not finished" in capsys.readouterr().out


def test_or_come_through_the_cluster(cluster: type[Played], tmp_path: Path) -> None:
    run = begun(tmp_path / "there" / "mine")
    cluster.known.append(JOB)
    cluster.results = "noise\n" + "\n".join(pack(run).lines())
    assert give("result", "mine", "--to", "home") == 0
    assert (tmp_path / "home" / "journal.jsonl").read_bytes() == (run / "journal.jsonl").read_bytes()
    assert cluster.helped[0][-2:] == ["--directory", "/nowhere/mine"]


def test_results_cut_off_on_their_way_are_exit_code_1(
    cluster: type[Played], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path / "there" / "mine")
    cluster.known.append(JOB)
    cluster.results = "\n".join(list(pack(run).lines())[:-1])
    assert give("result", "mine") == 1
    assert "error: the results were cut off on their way; ask for them again" in capsys.readouterr().err
    assert not (tmp_path / "results" / "mine").exists()


def test_results_outlive_their_cluster(
    cluster: type[Played], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path / "shared" / "mine")
    monkeypatch.setattr(submit, "Cluster", None)
    assert give("result", "mine", "--directory", str(tmp_path / "shared")) == 0
    assert give("result", "mine", "--directory", "shared") == 2
    assert give("result", "mine", "--directory", f"file://{tmp_path}/shared", "--to", "copied") == 0
    assert (tmp_path / "copied" / "model" / "weights.pt").read_bytes() == b"weights"
    assert give("result", "other", "--directory", f"file://{tmp_path}/shared") == 2


def test_a_token_that_anybody_could_read_on_its_way_is_said(
    cluster: type[Played], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    note = "note: the token goes to head unencrypted"
    assert give("list") == 0
    assert note in capsys.readouterr().err
    for address in ("https://head:8265", "http://127.0.0.1:8265"):
        assert submit.main(["list", "--address", address]) == 0
        assert note not in capsys.readouterr().err
