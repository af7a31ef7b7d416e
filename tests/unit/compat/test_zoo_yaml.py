"""Files of Cluster Serving are YAML of strangers: nothing in them makes objects, or much work."""

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardian.compat.zoo.yaml_tree import Mapping, Scalar, Sequence, parse_mapping
from wardian.errors import ConfigError

TAGS = frozenset({"One", "Other"})
CANARY = "hunter2-canary"


def parse(text: str | bytes, tags=TAGS) -> Mapping:
    raw = text.encode() if isinstance(text, str) else text
    return parse_mapping(raw, name="config.yaml", tags=tags)


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as info:
        parse(text)
    shown = str(info.value)
    assert shown.startswith("config.yaml")
    assert CANARY not in shown
    error: BaseException | None = info.value
    while error is not None:  # nor in what a traceback would show with it
        assert CANARY not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown


def test_keys_have_their_lines_and_values_stay_texts():
    tree = parse("# comment\nJobName: 0x10\nlist:\n  - yes\n  - '~'\n  - ~\nnone:\n")
    assert {name: entry.line for name, entry in tree.entries.items()} == {
        "jobname": 2, "list": 3, "none": 7,
    }  # fmt: skip
    assert tree.entries["jobname"].name == "JobName"
    value = tree.entries["jobname"].value
    assert isinstance(value, Scalar)
    assert value.text == "0x10"
    items = tree.entries["list"].value
    assert isinstance(items, Sequence)
    assert [each.null for each in items.items] == [False, False, True]
    assert tree.entries["none"].value.null


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "~", "{}"])
def test_an_empty_file_has_no_keys(text):
    assert parse(text).entries == {}


@pytest.mark.parametrize("written", ["!<One>", "!One"])
def test_a_tag_that_is_known_is_kept(written):
    tree = parse(f"a:\n - {written}\n   b: 1\n")
    (item,) = tree.entries["a"].value.items
    assert (item.tag, item.line) == ("One", 2)
    assert item.entries["b"].value.text == "1"


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch /tmp/x']",
        "!!python/object:os.Popen {}",
        "a: !!python/name:os.system",
        "a: !<tag:yaml.org,2002:python/module:os> ''",
        "a: !!set {b}",
        "a: !!binary aGVsbG8=",
        "a: !Unknown {b: 1}",
        "a: !<One> text",
        "a: !<One> [1]",
        "!<One> {a: 1}",
        "a: !!str {b: 1}",
    ],
)
def test_tags_of_anything_else_are_refused(text):
    assert "tag" in refused(text) or "not a mapping" in refused(text)


def test_a_billion_laughs_are_refused():
    bomb = "a: &a [x, x]\n"
    bomb += "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "an alias of anything but one value" in refused(bomb)


def test_a_collection_that_holds_itself_is_refused():
    assert "alias" in refused("a: &a\n  b: *a\n")
    assert "alias" in refused("a: &a [*a]\n")


def test_an_alias_of_one_value_is_that_value():
    assert parse("a: &x text\nb: *x\n").entries["b"].value.text == "text"


def test_many_aliases_are_counted():
    assert "10,000 values" in refused("a: &x 1\nb: [" + "*x ," * 12_000 + "]\n")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_before_it_is_read(opening):
    began = time.process_time()
    told = refused(opening * (100_000 // len(opening)))
    assert "nesting deeper" in told or "a key that is a collection" in told
    assert time.process_time() - began < 5


def test_a_large_file_is_refused_unread():
    assert "larger than 128 KiB" in refused(b"\xff" * (100 * 1024**2))


def test_the_largest_file_is_read_in_bounded_time():
    began = time.process_time()
    line = "key%d: " + "x" * 100 + "\n"
    text = "".join(line % number for number in range(1100))
    assert len(parse(text).entries) == 1100
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nA: 2\n", "line 2: a key that line 1 sets already"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("- a\n", "not a mapping"),
        ("just text", "not a mapping"),
        ("? [a]\n: 1\n", "a key that is a collection"),
        ("a: [1\n", "not valid YAML"),
        ("a: b: c\n", "line 1: not valid YAML"),
        ("a: *nowhere\n", "alias"),
        ('a: "\\x', "not valid YAML"),
        (b"a: \xff\n", "not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"a: \x00\n", "not valid YAML"),
        ("%YAML 9.9\n---\na: 1\n", "not valid YAML"),
    ],
)
def test_what_is_no_such_file_is_refused_with_its_line(text, told):
    assert told in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        f"redisSecureTrustStorePassword: [{CANARY}\n",
        f"password: {CANARY}: {CANARY}\n",
        f"password: !{CANARY} x\n",
        f"password: *{CANARY}\n",
        f"{CANARY}: 1\n{CANARY}: 2\n",
        f'password: "{CANARY}\\q"\n',
        f"%TAG ! {CANARY}\n%TAG ! {CANARY}\n---\na: 1",
        CANARY.encode() + b"\xff",
        CANARY,
    ],
)
def test_no_error_shows_what_stands_in_the_file(text):
    refused(text)


def test_a_tree_s_repr_shows_no_value():
    assert CANARY not in repr(parse(f"a: {CANARY}\nb: [{CANARY}]\n"))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text("ab:-[]{}&*!|>'\"\n #%?,<1~", max_size=120)))
def test_anything_is_a_tree_or_an_error_of_ours(made):
    raw = made if isinstance(made, bytes) else made.encode()
    try:
        tree = parse(raw)
    except ConfigError:
        return
    assert isinstance(tree, Mapping)


def test_without_pyyaml_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install 'wardian[zoo]'" in refused("a: 1")
