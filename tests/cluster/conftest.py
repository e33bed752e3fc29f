"""A Ray cluster of real processes on this machine, and one line for each scenario at the end.

Each node is started by `ray start`, as on a machine of its own: a head that runs no trials, and workers to which Ray is
told to attribute GPUs. They run in a network namespace with a loopback alone: ports cannot clash, and the namespace
lists its processes, which are only ever ended by their ids.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.package import project_files
from tests.end_to_end.forked import clean_environment
from tests.tuner.tiny import write_yaml
from tuner.record.events import Event
from tuner.record.lines import read_events

DEADLINE_S = 900.0
"""Limit of each wait. Far more than it takes, so that no test fails for other work on the machine."""

ADDRESS = "http://127.0.0.1:8265"
WORKER_CPUS, WORKER_GPUS = 4, 1
GPU_SHARE = 0.25
NUM_FOLDS = 2

# A busy machine may take minutes to start what Ray gives half a minute to.
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
}

GATE = """

# Added by tests/cluster: every fold writes down where it is, and waits until the test lets it go on.
class Gated(FoldTrainable):
    def step(self):
        import os, ray, time

        node = ray.util.get_node_ip_address()
        gate = Path({gate!r})
        if self.training is None:
            said = f"{{self.number}} {{self.fold}} {{node}} {{os.environ.get('CUDA_VISIBLE_DEVICES')}}"
            (gate / f"{{self.number}}-{{self.fold}}-{{node}}").write_text(said)
        while not ((gate / "open").exists() or (gate / f"open-{{self.fold}}").exists()):
            time.sleep(0.1)
        return super().step()


FoldTrainable = Gated
"""


CARDS = """

# Added by tests/cluster: the GPUs are there for Ray alone, and of a kind that computes in fp32.
def inspect_gpu() -> GpuFacts:
    name = "a GPU of the tests"
    return GpuFacts(node=platform.node(), torch=torch.__version__, cuda="13.0", name=name, capability=(6, 1))
"""

PROBE = """

# Added by tests/cluster: the same need on a large and on a small kind of GPU. Nobody waits long for a whole one.
PROBE_WAIT_S = 2.0


def probe_gpu_memory(configs, images, num_folds, share):
    import ray

    has_80_gib = "accelerator_type:H100" in ray.get_runtime_context().get_assigned_resources()
    return GpuMemoryNeed(6 << 30, 0, 1 << 29, (80 if has_80_gib else 16) << 30)
"""


def until(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Waits until `condition` is true; returns its value. Fails where `process` ends first or the deadline passes."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return value


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """The output of a command once it has ended with `code`."""
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, said
    return said


@dataclass
class Cluster:
    """Nodes in a network namespace; `folder` holds their files, `shared` is the folder that all see."""

    namespace: str
    folder: Path
    shared: Path
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[subprocess.Popen[str]] = field(default_factory=list)

    def start_head(self) -> None:
        ports = ["--port", "6379", "--dashboard-host", "127.0.0.1", "--dashboard-port", "8265"]
        self._start("--head", *ports, "--num-cpus", "0", "--num-gpus", "0", node=1)

    def start_worker(self, node: int, apart: Path | None = None, kind: str = "") -> None:
        """`apart` is a folder that the node has to itself instead of the shared one; `kind` is of its GPUs."""
        room = ["--num-cpus", str(WORKER_CPUS), "--num-gpus", str(WORKER_GPUS)]
        room += ["--resources", json.dumps({f"accelerator_type:{kind}": 1})] if kind else []
        agent = ["--dashboard-agent-listen-port", str(52400 + node)]
        hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(apart)]
        self._start("--address", "127.0.0.1:6379", *room, *agent, node=node, within=hidden if apart else [])

    def _start(self, *flags: str, node: int, within: Sequence[str] = ()) -> None:
        temporary = self.folder / f"n{node}"  # each its own: nodes that share one take each other's files away
        ports = ["--min-worker-port", f"{20000 + 200 * node}", "--max-worker-port", f"{20199 + 200 * node}"]
        place = ["--node-ip-address", address_of(node), "--temp-dir", str(temporary), *ports]
        limits = ["--object-store-memory", "100000000", "--disable-usage-stats"]
        ended(self.popen(*within, "ray", "start", *flags, *place, *limits))

    def kill_node(self, node: int) -> None:
        """Kills Ray's processes of a node, as when the machine loses power: the others are told nothing."""
        marks = (f"--node_ip_address={address_of(node)} ", f"{self.folder}/n{node}/")
        self.kill(lambda command: any(mark in command for mark in marks))

    def kill(self, chosen: Callable[[str], bool] = lambda command: True) -> None:
        for pid in self.pids():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") + " "
                if chosen(command):
                    os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, FileNotFoundError):
                pass  # it ended by itself

    def pids(self) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def popen(self, *words: str, cwd: Path | None = None, **changes: str) -> subprocess.Popen[str]:
        """Starts a command in the namespace, with the environment of the tests; stderr goes to stdout."""
        bin = Path(sys.executable).parent
        environment = clean_environment() | {
            "HOME": str(self.folder / "home"),  # a token that another Ray left in the real one would lock this one
            "PATH": f"{bin}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "disabled",
        }
        command = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *words],
            cwd=cwd or self.folder,
            env=environment | PATIENCE | self.environment | changes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.commands.append(command)
        return command

    def end(self) -> None:
        until(lambda: self.kill() or not self.pids())
        for command in self.commands:  # of a scenario that failed, some were still running
            command.wait()
            assert command.stdout is not None
            command.stdout.close()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def address_of(node: int) -> str:
    return f"127.0.0.{node}"


@dataclass
class Client:
    """A user's machine: a copy of the project, whose trials wait at a gate, and an experiment."""

    cluster: Cluster
    project: Path
    gate: Path
    user: str = "ada"

    def popen(self, *words: str, address: str = ADDRESS, **changes: str) -> subprocess.Popen[str]:
        """Starts `python -m deploy.submit …` as the user."""
        command = ["python", "-m", "deploy.submit", *words, "--address", address, "--wait-s", "300"]
        return self.cluster.popen(*command, cwd=self.project, LOGNAME=self.user, **changes)

    def give(self, *words: str, code: int = 0, **changes: str) -> str:
        """Runs the same to its end, and returns its output."""
        return ended(self.popen(*words, **changes), code)

    def submit(self, name: str, *words: str, **changes: str) -> subprocess.Popen[str]:
        return self.popen("--space", "tiny.yaml", "--name", name, *words, **changes)

    def open(self, fold: int | None = None) -> None:
        """Lets every trial go on, or those that come to this fold."""
        (self.gate / ("open" if fold is None else f"open-{fold}")).touch()

    def at_gate(self) -> list[tuple[int, int, str, str]]:
        """Trial, fold, node and GPU of every fold that has come to the gate, also of those that went on."""
        texts = [path.read_text() for path in self.gate.glob("*-*-*")]
        return [(int(t), int(k), node, card) for t, k, node, card in (text.split() for text in texts if text)]

    def events(self, name: str) -> list[Event]:
        """The events of a job's journal, without a line that is being written."""
        files = list((self.cluster.shared / name).glob("*/*/journal.jsonl"))
        return [] if not files else list(read_events(files[0]))

    def kinds(self, name: str) -> list[str]:
        return [event.event for event in self.events(name)]


def new_client(cluster: Cluster, user: str = "ada", trials: int = 3, gpus: float | str = GPU_SHARE) -> Client:
    """A user with an experiment of a number of trials, without racing."""
    project, gate = (Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=cluster.folder)) for kind in (user, "gate"))
    for name, path in project_files().items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, project / name)
    changes = {"trainable": GATE.format(gate=str(gate)), "gpu_check": CARDS, "gpu_probe": PROBE}
    for module, addition in changes.items():
        with (project / "tuner" / "cluster" / f"{module}.py").open("a") as file:
            file.write(addition)
    settings: dict[str, Any] = {
        "search": {"trials": trials, "folds": NUM_FOLDS, "repeats": 1, "baselines": [], "racing": {"rule": "none"}},
        "resources": {"cpus": 1, "gpus": gpus},
        "retrain": {"seeds": 1},
        "tracking": {"directory": str(cluster.shared), "uri": f"sqlite:///{cluster.shared}/mlflow-{user}.db"},
    }
    write_yaml(project, **settings)
    return Client(cluster, project, gate, user)


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """The folder that all nodes of all clusters see, as on a network file system."""
    with tempfile.TemporaryDirectory(prefix="shared-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def new_cluster(shared: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts a head and a number of workers; all are ended with the tests, if not before."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace takes root and `ip`")
    # A shell lets what it starts in the background ignore Ctrl-C, and all that is started from there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started: list[Cluster] = []

    def start(workers: int, **environment: str) -> Cluster:
        # Short: the path of a Unix socket in it has at most 107 characters.
        cluster = Cluster(
            f"tuner-{os.getpid()}-{len(started)}", Path(tempfile.mkdtemp(prefix="c")), shared, environment
        )
        (cluster.folder / "home").mkdir()
        subprocess.run(["ip", "netns", "add", cluster.namespace], check=True)
        started.append(cluster)
        subprocess.run(["ip", "-n", cluster.namespace, "link", "set", "lo", "up"], check=True)
        cluster.start_head()
        for node in range(2, 2 + workers):
            cluster.start_worker(node)
        return cluster

    yield start
    for cluster in started:
        if cluster.folder.exists():
            cluster.end()


@pytest.fixture(scope="session")
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A head and two workers with a GPU each, for scenarios that leave them as they were."""
    return new_cluster(workers=2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Prints `scenario ok|failed seconds` for each, with its share of the fixtures, after pytest's own summary."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    seconds: dict[str, float] = {}
    failed: set[str] = set()
    for report in itertools.chain(*(reporter.stats.values() if reporter else ())):
        if isinstance(report, pytest.TestReport) and "tests/cluster/" in report.nodeid and not report.skipped:
            scenario = report.nodeid.rpartition("::test_")[2].replace("_", "-")
            seconds[scenario] = seconds.get(scenario, 0.0) + report.duration
            failed |= {scenario} if report.failed else set()
    for scenario, duration in seconds.items():
        reporter.write_line(f"{scenario} {'failed' if scenario in failed else 'ok'} {duration:.0f}")
