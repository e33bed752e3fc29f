from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.render import Target, render
from deploy.settings import load_settings

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
DEADLINE_S = 60

# Stand-ins for Slurm and the project: `srun` notes what it was given, and stays where it is to start a Ray node.
STUBS = {
    "getent": 'echo "127.0.1.1 STREAM $2"; echo "10.0.0.5 STREAM $2"; echo "10.0.0.5 DGRAM"',
    "srun": """
while [[ $1 == --* ]]; do shift; done
echo "$$ $*" >> "$SLURM_SUBMIT_DIR/srun.log"
[[ $1 == ray ]] && exec sleep 600
exec "$@"
""",
    "python": """
[[ $1 == -c ]] && { echo a-token; exit; }
# A real search is never over before Ray has started, on the head and on the others.
until [[ $(grep -c "ray start" "$SLURM_SUBMIT_DIR/srun.log") -ge 2 ]]; do sleep 0.05; done
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_ADDRESS $*" > "$SLURM_SUBMIT_DIR/driver.tmp"
mv "$SLURM_SUBMIT_DIR/driver.tmp" "$SLURM_SUBMIT_DIR/driver.log"
[[ -e "$SLURM_SUBMIT_DIR/stay" ]] && exec sleep 600
exit "$(cat "$SLURM_SUBMIT_DIR/code")"
""",
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The batch script in a folder whose environment holds the stand-ins."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, text in STUBS.items():
        (binaries / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (binaries / name).chmod(stat.S_IRWXU)
    (tmp_path / "code").write_text("0")
    (tmp_path / "search.sbatch").write_text(render(Target.SLURM, load_settings()))
    return tmp_path / "search.sbatch"


def started(script: Path, *arguments: str) -> subprocess.Popen[str]:
    slurm = {
        "SLURM_SUBMIT_DIR": str(script.parent),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    environment = {**os.environ, **slurm, "SLURMD_NODENAME": "node1"}
    command = ["bash", str(script), *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def steps(script: Path) -> dict[int, str]:
    """What was started by `srun`, by process id."""
    lines = (script.parent / "srun.log").read_text().splitlines()
    return {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in lines}


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "sleep" in Path(f"/proc/{pid}/cmdline").read_text()


def shellcheck(text: str) -> str:
    command = [str(SHELLCHECK), "--shell=bash", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False).stdout


def test_shellcheck_has_nothing_to_say() -> None:
    assert shellcheck(render(Target.SLURM, load_settings())) == ""
    assert "SC2086" in shellcheck("#!/bin/bash\nrm -rf $folder\n")


def test_it_starts_a_head_and_the_others_and_then_the_search(script: Path) -> None:
    ended = started(script, "--resume")
    output, _ = ended.communicate(timeout=DEADLINE_S)
    assert ended.returncode == 0, output
    said = steps(script).values()
    head, others, removal = (next(line for line in said if word in line) for word in ("--head", "--address 10", "rm"))
    assert "ray start --head --node-ip-address 10.0.0.5 --port 17110 " in head
    assert "ray start --address 10.0.0.5:17110 " in others
    assert removal == "rm -rf /tmp/ray-4711"
    driver = (script.parent / "driver.log").read_text()
    assert driver.startswith("token a-token 10.0.0.5:17110 -m deploy.workers --workers 2 ")
    assert driver.strip().endswith("--resume")


@pytest.mark.parametrize("answer", ['echo "127.0.1.1 STREAM $2"', "exit 2"], ids=["of itself alone", "not known"])
def test_a_node_that_others_cannot_reach_is_said(script: Path, answer: str) -> None:
    (script.parent / ".venv" / "bin" / "getent").write_text(f"#!/usr/bin/env bash\n{answer}\n")
    ended = started(script)
    output, _ = ended.communicate(timeout=DEADLINE_S)
    assert ended.returncode == 1
    assert "the address of node1 is not known to getent" in output


def test_each_job_has_ports_of_its_own_and_any_number_of_workers(script: Path) -> None:
    """Ray gives a port to each worker process: in a range that is too small, trials hang without a word."""
    started(script).communicate(timeout=DEADLINE_S)
    for line in steps(script).values():
        words = line.split()
        given = {flag: int(words[n + 1]) for n, flag in enumerate(words) if flag.endswith("-port")}
        fixed = [port for flag, port in given.items() if "worker" not in flag]
        if fixed:
            assert (given["--min-worker-port"], given["--max-worker-port"]) == (0, 0)
            assert len(set(fixed)) == len(fixed)
            assert {port // 10 for port in fixed} == {1711}


def test_tasks_have_the_cores_and_cards_of_the_job() -> None:
    text = render(Target.SLURM, load_settings())
    assert "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK" in text
    assert text.count("--gpus-per-node=1") == 3  # of the job, of the head, of the others


def test_the_exit_code_is_the_searchs(script: Path) -> None:
    (script.parent / "code").write_text("3")
    ended = started(script)
    ended.communicate(timeout=DEADLINE_S)
    assert ended.returncode == 3
    assert not any(is_running(pid) for pid in steps(script))


def test_when_the_time_is_up_it_ends_what_it_started_and_nothing_else(script: Path) -> None:
    (script.parent / "stay").touch()
    somebody_elses = subprocess.Popen(["sleep", "600"])
    try:
        job = started(script)
        wait_until(lambda: (script.parent / "driver.log").exists() and len(steps(script)) == 2)
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=DEADLINE_S)
        assert job.returncode == 143
        assert not any(is_running(pid) for pid in steps(script))
        assert somebody_elses.poll() is None
    finally:
        somebody_elses.kill()
        somebody_elses.wait()


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def script_problems(text: str) -> list[str]:
    commands = re.sub(r"#.*", "", text)
    flags = ["--node-manager-port", "--object-manager-port", "--min-worker-port", "--max-worker-port", "--temp-dir"]
    rules = {
        "no `ray stop`": "ray stop" not in commands,
        "ports and folder of its own": all(flag in commands for flag in flags),
        "a token": "RAY_AUTH_MODE=token" in commands,
        "the dashboard on the loopback": "--dashboard-host 127.0.0.1" in commands,
        "nobody's process by name": not re.search(r"\b(pkill|killall)\b", commands),
    }
    return [rule for rule, holds in rules.items() if not holds]


def test_it_keeps_to_itself_on_a_shared_node() -> None:
    text = render(Target.SLURM, load_settings())
    assert script_problems(text) == []
    assert script_problems("trap 'ray stop; pkill ray' EXIT\nray start --head\n") == [
        "no `ray stop`",
        "ports and folder of its own",
        "a token",
        "the dashboard on the loopback",
        "nobody's process by name",
    ]
