from __future__ import annotations

from pathlib import Path

import pytest

from trainables.errors import BadInput
from tuner.experiment.strict_yaml import MAX_VALUES, parse_document, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("0.1", 0.1),
        ("3", 3),
        ("0", 0),
        ("-0.5", -0.5),
        ("0x10", 16),
        ("1_000", 1000),
        ("'1:30'", "1:30"),
        ("host:8080", "host:8080"),
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
    assert str(bad.value) == "x.yaml:4: method.alpha: expected a key that is given once, got 'alpha' in line 2, too"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_leaf_that_is_fixed_and_searched_is_refused_as_such(reverse: bool) -> None:
    lines = ["  alpha: 0.2", "  alpha: {uniform: [0.1, 1.0]}"]
    with pytest.raises(BadInput, match="expected a leaf that is either fixed or searched, not both"):
        parse_yaml("\n".join(["method:", *(lines[::-1] if reverse else lines)]))


def test_merge_keys_and_anchors_still_work() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}")["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "x.yaml:1: expected ',' or ']', got the end of the text"),
        (b"a: 1\nb: c: d", "x.yaml:2: expected valid YAML, got a syntax error: mapping values"),
        (b"- 1\n- 2", "x.yaml: expected a mapping of sections, got a list"),
        (b"", "x.yaml: expected a mapping of sections, got an empty file"),
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


class TestLines:
    def test_each_key_and_item_has_its_line(self) -> None:
        text = "a: 1\n\nb:\n  c: {d: 2}\n  e:\n  - f\n  - g: 3\n    h.i: 4\n"
        assert parse_document(text).lines == {
            "a": 1,
            "b": 3,
            "b.c": 4,
            "b.c.d": 4,
            "b.e": 5,
            "b.e[0]": 6,
            "b.e[1]": 7,
            "b.e[1].g": 7,
            "b.e[1].h.i": 8,
        }

    def test_a_merged_key_has_the_line_where_it_was_written(self) -> None:
        text = "base: &base\n  x: 1\n  y: 2\nown:\n  <<: *base\n  y: 3\n"
        content, lines = parse_document(text)
        assert content["own"] == {"x": 1, "y": 3}
        assert (lines["own.x"], lines["own.y"], lines["base.y"]) == (2, 6, 3)
        assert "own.<<" not in lines

    def test_an_alias_has_its_own_line_and_its_content_that_of_the_anchor(self) -> None:
        lines = parse_document("a: &a\n  x: 1\nb: *a\n").lines
        assert (lines["b"], lines["b.x"]) == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\n2\n\n", "x.yaml:2: expected ',' or ']', got the end of the text"),
        (
            "a:\n - b\n c: 1",
            "x.yaml:3: expected the keys or items of one section indented alike, got another indentation",
        ),
        ("a: 2026-02-30", "x.yaml:1: a: expected a value that is no date (in quotes: a text), got 2026-02-30"),
        (
            "a:\n- 2026-02-28",
            "x.yaml:2: a[0]: expected a value that is no date (in quotes: a text), got 2026-02-28",
        ),
        (
            "a: 1:30",
            "x.yaml:1: a: expected a number without colons (in quotes: a text), got 1:30",
        ),
        (
            "a: 010",
            "x.yaml:1: a: expected a number without leading zeros (in quotes: a text), got 010",
        ),
        ("a: 1\nb: !!int ff", "x.yaml:2: b: expected valid YAML, got 'ff', which is no int"),
        ('a: {b: "x\\0y"}', "x.yaml:1: a.b: expected text without control characters, got 'x\\x00y'"),
        ('a: "x\\ud800"', "x.yaml:1: a: expected text without control characters, got 'x\\ud800'"),
        ('"x\\0y": 1', "x.yaml:1: expected keys without control characters, got 'x\\x00y'"),
        (
            "a: 9223372036854775808",
            "x.yaml:1: a: expected a whole number of 18 digits at most, got 9223372036854775808",
        ),
        ("a: 1\nb: *c", "x.yaml:2: expected valid YAML, got undefined alias 'c'"),
        ("a: 1\n\tb: 1", "x.yaml:2: expected valid YAML, got character '\\t' that cannot start any token"),
        ("a: 1\nb: \x07", "x.yaml:2: b: expected text that YAML allows, got the character #x0007"),
        (
            "a: 1\nb: {c: [x, 'y\0'], d: 2}",
            "x.yaml:2: b.c[1]: expected text that YAML allows, got the character #x0000",
        ),
        ("a: 1 # \0", "x.yaml:1: expected text that YAML allows, got the character #x0000"),
        ("a: 1\n---\nb: 1", "x.yaml:2: expected valid YAML, got another document"),
        ("a: &a\n- *a", "x.yaml:1: a[0]: expected an alias of something else, got one of the value that holds it"),
        ("1: a\n0x1: b", "x.yaml:2: 1: expected a key that is given once, got 1 in line 1, too"),
        (
            "a:\n  " + "[" * 60 + "]" * 60,
            "x.yaml:2: expected at most 50 mappings and lists within each other, got more",
        ),
        ("[" * 5000, "x.yaml: expected at most 50 mappings and lists within each other, got more"),
    ],
)
def test_what_is_no_yaml_names_the_line(text: str, message: str) -> None:
    with pytest.raises(BadInput) as bad:
        parse_yaml(text, "x.yaml")
    assert str(bad.value) == message


def test_every_repeated_key_is_a_problem_of_its_own() -> None:
    with pytest.raises(BadInput) as bad:
        parse_yaml("a:\n  x: 1\n  x: 2\nb: 1\na: {}\n")
    assert [(problem.where, problem.line) for problem in bad.value.problems] == [("a", 5), ("a.x", 3)]


def test_a_list_of_a_hundred_thousand_items_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadInput, match=rf"^x.yaml: expected at most {MAX_VALUES} values, got more$"):
        parse_yaml("a: [" + "x, " * 100_000 + "]", "x.yaml")


def test_a_file_of_megabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# " + "x" * 1_000_000)
    with pytest.raises(BadInput, match="expected a file of at most 200,000 characters, got more"):
        read_yaml(tmp_path / "x.yaml")


def test_a_device_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(BadInput, match="expected a file of at most 200,000 characters, got more"):
        read_yaml(Path("/dev/zero"))


def test_aliases_that_stand_for_billions_are_refused_at_once() -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(BadInput) as bad:
        parse_yaml("\n".join(["a0: &a0 [x, x]", *levels]), "x.yaml")
    assert f"at most {MAX_VALUES} values" in str(bad.value)
    assert len(str(bad.value)) < 200
