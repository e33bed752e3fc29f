"""Generates passwords and tokens for compose, Kubernetes and `ray up`; there are no default ones.

python -m deploy.secrets compose                            # deploy/.env, for deploy/compose.yaml
python -m deploy.secrets kubernetes | kubectl create -f -   # Secrets, from here straight into the cluster
python -m deploy.secrets token                              # ~/.ray/auth_token, for `ray up` and for clients
"""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from deploy.render import Target, add_settings, render
from deploy.settings import Settings, load_settings
from trainables.errors import BadInput, Problem
from tuner.cli.arguments import SUCCEEDED, guarded

ENV_FILE = Path(__file__).parent / ".env"
TOKEN_FILE = Path("~/.ray/auth_token")
PASSWORDS = ("POSTGRES_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")
"""Variables of compose.yaml besides those of the settings."""
NUM_BYTES = 32


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m deploy.secrets", description="Generate passwords.")
    parser.add_argument("target", choices=["compose", "kubernetes", "token"])
    add_settings(parser)
    return guarded(lambda: run(parser.parse_args(argv)))


def run(arguments: argparse.Namespace) -> int:
    """Writes or prints the passwords; returns the exit code."""
    settings = load_settings(arguments.settings, dict(arguments.set))
    match arguments.target:
        case "compose":
            write_privately(ENV_FILE, env_text(settings, known_passwords(ENV_FILE)))
            print(ENV_FILE)
        case "kubernetes":
            print(yaml.safe_dump_all(kubernetes_secrets(settings, os.environ), sort_keys=False), end="")
        case "token":
            file = TOKEN_FILE.expanduser()
            write_privately(file, file.read_text(encoding="utf-8") if file.exists() else secrets.token_hex(NUM_BYTES))
            print(file)
    return SUCCEEDED


def env_text(settings: Settings, known: Mapping[str, str]) -> str:
    """The environment file of compose.yaml: settings, and passwords, of which `known` ones are kept."""
    passwords = {name: known.get(name) or secrets.token_hex(NUM_BYTES) for name in PASSWORDS}
    lines = [f"{name}={value}\n" for name, value in passwords.items()]
    return render(Target.COMPOSE_ENV, settings) + "".join(lines)


def known_passwords(file: Path) -> dict[str, str]:
    """Reads the passwords from an environment file; none where there is no file."""
    if not file.exists():
        return {}
    pairs = (line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name: value for name, value in pairs if name in PASSWORDS}


def kubernetes_secrets(settings: Settings, environment: Mapping[str, str]) -> list[dict[str, object]]:
    """Secrets for the manifests. Credentials of services that exist already are taken from the environment.

    Raises:
        BadInput: where the environment lacks one of these.
    """
    held = {"token": {"auth_token": secrets.token_hex(NUM_BYTES)}}
    held |= {"database": {"password": _given_or_new("PGPASSWORD", settings.mlflow.database_host, environment)}}
    if settings.kubernetes.gcs_redis:
        held |= {"redis": {"password": _given("REDIS_PASSWORD", environment)}}
    ray_needs_keys = settings.storage.is_s3 and settings.kubernetes.service_account is None
    if ray_needs_keys or settings.mlflow.is_s3:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        held |= {"s3": {key.removeprefix("AWS_").lower(): _given(key, environment) for key in keys}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{settings.name}-{name}", "namespace": settings.kubernetes.namespace},
            "type": "Opaque",
            "stringData": data,
        }
        for name, data in held.items()
    ]


def _given_or_new(name: str, host: str | None, environment: Mapping[str, str]) -> str:
    return _given(name, environment) if host else secrets.token_hex(NUM_BYTES)


def _given(name: str, environment: Mapping[str, str]) -> str:
    if not environment.get(name):
        raise BadInput(Problem(name, "an environment variable with the credential of the existing service", "none"))
    return environment[name]


def write_privately(file: Path, text: str) -> None:
    """Writes a file that only its owner can read, also while it is written."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.tmp")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    unfinished.replace(file)


if __name__ == "__main__":
    raise SystemExit(main())
