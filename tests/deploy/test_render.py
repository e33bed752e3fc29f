from __future__ import annotations

import importlib.util
import os
import re
import stat
import subprocess
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined, UndefinedError
from ray.autoscaler._private.util import prepare_config, validate_config

from deploy.render import Target, as_shell, as_yaml, main, render
from deploy.settings import Settings, load_settings
from trainables.errors import BadInput

YAML_TARGETS = [target for target in Target if target.file.endswith(".yaml")]
RAY_UP = [Target.RAY_UP, Target.RAY_UP_AWS]
KEY = {"machines.ssh_key": "~/.ssh/id_lab"}


def rendered(target: Target, **overrides: Any) -> str:
    """The text of a target's file, with a key for those that need one; `overrides` with `__` for the dots."""
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return render(target, load_settings(overrides=KEY | changes))


@pytest.mark.parametrize("target", Target, ids=lambda target: target.command)
def test_every_target_renders_and_nothing_is_left_open(target: Target) -> None:
    text = rendered(target)
    assert text.endswith("\n")
    assert "{{" not in text
    assert "{%" not in text
    assert target in YAML_TARGETS or "None" not in text  # in YAML it would be null


def test_every_template_belongs_to_a_target_or_to_another_template() -> None:
    templates = Path("deploy/templates")
    texts = {path.name: path.read_text() for path in templates.iterdir()}
    included = {name for name in texts if any(f'include "{name}"' in text for text in texts.values())}
    assert set(texts) == {target.file for target in Target} | included


def test_no_value_can_break_out_of_its_place() -> None:
    nasty = 'x"\nkind: Secret # $(id) `id` {{ s }}'
    environment = Environment(undefined=StrictUndefined, finalize=as_yaml)
    assert yaml.safe_load(environment.from_string("a: {{ v }}\n").render(v=nasty)) == {"a": nasty}
    assert as_shell(nasty).startswith("'")
    assert as_shell("a'b") == "'a'\"'\"'b'"


def test_a_setting_that_is_not_there_stops_the_rendering() -> None:
    environment = Environment(undefined=StrictUndefined, finalize=as_yaml)
    with pytest.raises(UndefinedError):
        environment.from_string("a: {{ s.nothing }}").render(s=load_settings())


def test_settings_reach_the_files() -> None:
    overrides = {"name": "lab", "worker.max_workers": 3, "worker.node_selector": {"zone": "a: b"}, "worker.gpus": 0}
    cluster = yaml.safe_load(render(Target.RAYCLUSTER, load_settings(overrides=overrides)))
    (group,) = cluster["spec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert cluster["metadata"]["name"] == "lab"
    assert group["maxReplicas"] == 3
    assert pod["nodeSelector"] == {"zone": "a: b"}
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]


def test_the_command_writes_the_file_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rayjob", "--set", "job.space=search_spaces/sst5.yaml", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "rayjob.yaml")
    assert "sst5.yaml" in yaml.safe_load((tmp_path / "out" / "rayjob.yaml").read_text())["spec"]["entrypoint"]


def test_bad_settings_are_one_line_each_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rayjob", "--set", "worker.gpus=-1", "--set", "name=A"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_every_command_of_the_page_exists() -> None:
    page = Path("deploy/README.md").read_text()
    targets = re.findall(r"deploy\.render ([a-z][a-z-]*)", page)
    assert set(targets) == {target.command for target in Target} - {Target.COMPOSE_ENV.command}
    modules = set(re.findall(r"python -m (deploy\.\w+)", page))
    assert modules >= {"deploy.render", "deploy.secrets", "deploy.submit"}
    assert all(importlib.util.find_spec(module) for module in modules)
    keys = set(re.findall(r"`?((?:" + "|".join(Settings.model_fields) + r")\.[a-z_]+)[=:`]", page))
    assert keys
    assert all(attrgetter(key)(load_settings()) is not Ellipsis for key in keys)


@pytest.mark.parametrize("target", RAY_UP, ids=lambda target: target.command)
def test_the_shared_folder_is_in_the_container_unless_it_is_a_bucket(target: Target) -> None:
    for place, mounted in {"/nfs/runs": True, "s3://lab/runs": False}.items():
        assert ("--volume" in rendered(target, storage__experiments=place)) is mounted


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as `ray up` completes it. Raises where it would refuse it."""
    prepared: dict[str, Any] = prepare_config(config)
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("target", RAY_UP, ids=lambda target: target.command)
def test_ray_up_takes_the_file(target: Target) -> None:
    config = yaml.safe_load(rendered(target))
    prepared = checked(config)
    assert prepared["docker"]["image"] == load_settings().tuner_image
    with pytest.raises(Exception, match="Additional properties"):
        checked(config | {"workers": 2})


@pytest.mark.parametrize("target", RAY_UP, ids=lambda target: target.command)
def test_on_machines_the_dashboard_stays_on_the_loopback_and_asks_for_the_token(target: Target) -> None:
    config = yaml.safe_load(rendered(target))
    start = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert list(config["file_mounts"]) == ["/home/ray/.ray/auth_token"]


def test_the_head_of_own_machines_has_the_key_by_which_it_starts_the_workers() -> None:
    """Ray copies a key to the head where the file names one, and says nothing where it does not."""
    auth = checked(yaml.safe_load(rendered(Target.RAY_UP)))["auth"]
    assert auth == {"ssh_user": "ray", "ssh_private_key": "~/.ssh/id_lab"}
    with pytest.raises(BadInput, match=r"machines\.ssh_key: expected the file of the private key .*, got none"):
        render(Target.RAY_UP, load_settings())


def test_the_containers_user_takes_over_the_files_that_only_the_ssh_user_could_read(tmp_path: Path) -> None:
    (command,) = checked(yaml.safe_load(rendered(Target.RAY_UP)))["setup_commands"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    for name, text in {"cat": "exit $(cat_says)", "cat_says": "echo $UNREADABLE", "sudo": 'echo "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    for unreadable, said in {"0": "", "1": f"chown {os.getuid()}:{os.getgid()} {tmp_path}/.ray/auth_token\n"}.items():
        environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "UNREADABLE": unreadable}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == said


@pytest.mark.parametrize("target", RAY_UP, ids=lambda target: target.command)
@pytest.mark.parametrize(("registry", "is_pulled"), [("", False), ("registry.lan/ml/", True)])
def test_an_image_that_is_in_no_registry_is_not_pulled(target: Target, registry: str, is_pulled: bool) -> None:
    docker = checked(yaml.safe_load(rendered(target, images__registry=registry)))["docker"]
    assert docker["pull_before_run"] is is_pulled


@pytest.mark.parametrize("target", [*RAY_UP, Target.RAYCLUSTER, Target.SLURM], ids=lambda target: target.command)
def test_every_node_knows_the_s3_service_of_the_experiments(target: Target) -> None:
    s3 = {"storage__region": "eu-central-1", "storage__endpoint": "http://store:9000"}
    text = rendered(target, storage__experiments="s3://lab/runs", **s3)
    for name, value in {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://store:9000"}.items():
        assert f"{name}={value}" in text or f'{{name: "{name}", value: "{value}"}}' in text


def test_own_machines_get_the_keys_of_s3_as_they_get_the_token() -> None:
    mounts = checked(yaml.safe_load(rendered(Target.RAY_UP, storage__experiments="s3://lab/runs")))["file_mounts"]
    assert mounts["/home/ray/.aws/credentials"] == "~/.aws/credentials"
    assert ".aws" not in rendered(Target.RAY_UP_AWS, storage__experiments="s3://lab/runs")  # the instance profile


@pytest.mark.parametrize("target", [*RAY_UP, Target.RAYCLUSTER, Target.RAYJOB], ids=lambda target: target.command)
def test_nodes_hold_the_settings_that_deploy_submit_needs(target: Target) -> None:
    text = rendered(target, storage__experiments="s3://lab/runs", worker__cpus=6, worker__gpus=2)
    held = {"TUNER_EXPERIMENTS": "s3://lab/runs", "TUNER_EXPERIMENTS_LOCAL": "/tmp/experiments"}
    size = {"TUNER_WORKER_CPUS": "6", "TUNER_WORKER_GPUS": "2"}  # own machines are all there from the start
    for name, value in (held | ({} if target is Target.RAY_UP else size)).items():
        assert f"{name}={value}" in text or f'{{name: "{name}", value: "{value}"}}' in text


def test_own_machines_all_take_part_and_the_head_runs_no_trial() -> None:
    config = checked(yaml.safe_load(rendered(Target.RAY_UP)))
    assert config["max_workers"] == len(load_settings().machines.workers)
    assert "--num-cpus=0 --num-gpus=0" in config["head_start_ray_commands"][-1]


def test_the_cloud_grows_from_none_and_holds_no_key() -> None:
    text = render(Target.RAY_UP_AWS, load_settings())
    types = checked(yaml.safe_load(text))["available_node_types"]
    assert types["worker"]["min_workers"] == 0
    assert types["worker"]["node_config"]["InstanceType"] == load_settings().aws.worker
    assert types["worker"]["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "AWS_SECRET" not in text


@pytest.mark.parametrize("spot", [False, True])
def test_workers_on_the_spot_market_are_asked_for(spot: bool) -> None:
    types = checked(yaml.safe_load(render(Target.RAY_UP_AWS, load_settings(overrides={"aws.spot": spot}))))[
        "available_node_types"
    ]
    assert ("InstanceMarketOptions" in types["worker"]["node_config"]) is spot
    assert "InstanceMarketOptions" not in types["head"]["node_config"]


@pytest.mark.parametrize("target", RAY_UP, ids=lambda target: target.command)
def test_containers_on_machines_share_the_cache_and_workers_see_their_cards(target: Target) -> None:
    docker = yaml.safe_load(rendered(target))["docker"]
    assert "--env TUNER_CACHE=/experiments/cache" in docker["run_options"]
    assert "--env NVIDIA_VISIBLE_DEVICES=all" in docker["worker_run_options"]
