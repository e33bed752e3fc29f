from __future__ import annotations

from pathlib import Path

import pytest

from trainables.errors import BadInput
from tuner.experiment.strict_yaml import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("0.1", 0.1),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("1e", "1e"),
        ("e3", "e3"),
        ("[1e-4, 1]", [1e-4, 1]),
    ],
)
def test_numbers_are_what_a_person_means(text: str, value: object) -> None:
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(BadInput) as bad:
        parse_yaml("method:\n  alpha: 0.2\n  name: smile\n  alpha: 0.3\n", "x.yaml")
    assert str(bad.value) == "x.yaml: alpha: a key is given once, got 'alpha' twice, in line 2 and line 4"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_leaf_that_is_fixed_and_searched_is_refused_as_such(reverse: bool) -> None:
    lines = ["  alpha: 0.2", "  alpha: {uniform: [0.1, 1.0]}"]
    with pytest.raises(BadInput, match="a leaf is either fixed or searched, not both"):
        parse_yaml("\n".join(["method:", *(lines[::-1] if reverse else lines)]))


def test_merge_keys_and_anchors_still_work() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}")["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "line 1: valid YAML"),
        (b"a: b: c", "line 1: valid YAML"),
        (b"- 1\n- 2", "a mapping of sections, got list"),
        (b"", "a mapping of sections, got NoneType"),
        (b"\xff\xfe\xfa", "bytes that are not UTF-8"),
        (b"a: !!python/object:os.system {}", "valid YAML"),
        (b"{[1]: 2}", "valid YAML"),
    ],
)
def test_what_is_no_experiment_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(BadInput) as bad:
        read_yaml(file)
    assert str(file) in str(bad.value)
    assert message in str(bad.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a readable YAML file, got no such file or directory"):
        read_yaml(tmp_path / "none.yaml")
