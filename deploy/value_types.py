"""Types of the values of deploy/settings.yaml: pinned images, places, names that Kubernetes takes, printable texts,
arguments of a search."""

from __future__ import annotations

import contextlib
import io
import re
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tuner.cli.arguments import parse_arguments
from tuner.search import parser as search_parser

NAME_CHARACTERS = 40
"""KubeRay allows a RayJob 47 characters, of which a run's suffix takes some."""

Version = Annotated[str, Field(pattern=r"^\d+(\.\d+)+$")]
Port = Annotated[int, Field(ge=1024, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=NAME_CHARACTERS)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$")]


def _pinned(image: str) -> str:
    if not re.fullmatch(r"[^\s:@]+(:\d+)?[^\s:@]*:(?!latest)[^\s:@]+(@sha256:[0-9a-f]{64})?", image):
        raise ValueError(f"an image with a tag other than `latest`, got {image!r}")
    return image


def _place(uri: str) -> str:
    if not (uri.startswith("/") or re.match(r"s3://[^/?]+", uri)) or "@" in uri:
        raise ValueError(f"an absolute path or s3://<bucket>, without credentials, got {uri!r}")
    return uri.rstrip("/")


def _endpoint(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https") or "@" in url:
        raise ValueError(f"http(s)://<host>, without credentials, got {url!r}")
    return url


def _printable(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"text of one line, without control characters, got {text!r}")
    return text


def _interface(address: str) -> str:
    try:
        if not IPv4Address(address).is_unspecified:
            return address
    except AddressValueError:
        pass
    raise ValueError(f"the IPv4 address of one network interface, got {address!r}")


def _search_arguments(arguments: tuple[str, ...]) -> tuple[str, ...]:
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            parse_arguments(search_parser(), ["--space", "FILE", *arguments])
        except SystemExit:
            reason = said.getvalue().strip().rpartition("error: ")[2] or "it prints its help"
            expected = "arguments that tuner.search takes beside --space"
            raise ValueError(f"{expected}, got {' '.join(arguments)!r}: {reason}") from None
    return arguments


Printable = Annotated[str, AfterValidator(_printable)]
SearchArguments = Annotated[tuple[Printable, ...], AfterValidator(_search_arguments)]
PinnedImage = Annotated[str, AfterValidator(_pinned)]
Place = Annotated[str, AfterValidator(_place)]
Interface = Annotated[str, AfterValidator(_interface)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
