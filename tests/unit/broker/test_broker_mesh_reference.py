"""What owners read about the manifest is what the code does: rules, labels, fields."""

import re
from pathlib import Path

import msgspec
import pytest

from wardian.broker.mesh.chain import MAX_VERSION_STEP
from wardian.broker.mesh.lines import ModelLine, ReleaseTerms, SecretLine
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import TrustAnchor
from wardian.broker.owners.offers import MOST_EDITIONS, MOST_LINES
from wardian.broker.owners.protocol import Order, OwnerChallenge, Provision, Receipt

ROOT = Path(__file__).parents[3]
PAGES = {
    name: (ROOT / "docs/reference" / f"{name}.md").read_text()
    for name in ("mesh-manifest", "protocol", "audit-log")
}
CODE = [
    *(ROOT / "src/wardian/broker/mesh").glob("*.py"),
    *(ROOT / "src/wardian/broker/owners").glob("*.py"),
    *(
        ROOT / "src/wardian/broker/release" / name
        for name in ("policy.py", "grants.py", "terms.py", "releases.py")
    ),
]


def test_every_rule_and_label_is_explained() -> None:
    source = "".join(path.read_text() for path in CODE)
    rules = set(re.findall(r'rule="([a-z-]+)"', source))
    labels = set(re.findall(r'"(wardian [a-z ]+ v1)"', source))
    assert len(rules) > 25
    assert len(labels) > 12
    text = "".join(PAGES.values())
    assert {rule for rule in rules if f"`{rule}`" not in text} == set()
    assert {label for label in labels if label not in text} == set()


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        (MeshManifest, "mesh-manifest"),
        (TrustAnchor, "mesh-manifest"),
        (ModelLine, "mesh-manifest"),
        (SecretLine, "mesh-manifest"),
        (ReleaseTerms, "mesh-manifest"),
        (OwnerChallenge, "protocol"),
        (Provision, "protocol"),
        (Order, "protocol"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_field_stands_in_its_table(kind: type[msgspec.Struct], page: str) -> None:
    prefix = {TrustAnchor: "trust."}.get(kind, "")
    fields = {f"{prefix}{name}" for name in kind.__struct_fields__}
    named = {name for name in fields if re.search(rf"`{re.escape(name)}[`.\[]", PAGES[page])}
    assert fields - named == set()


def test_the_reference_says_how_much_is_remembered() -> None:
    assert f"{MOST_LINES:,} lines" in PAGES["mesh-manifest"]
    assert f"{MOST_EDITIONS:,} manifests" in PAGES["mesh-manifest"]
    assert MAX_VERSION_STEP == 2**20
    assert PAGES["mesh-manifest"].count("by at most 2^20") == 2


def test_the_receipt_s_fields_stand_in_its_row() -> None:
    """Two of them as words: manifest digest and version."""
    (row,) = (
        line
        for line in PAGES["protocol"].splitlines()
        if "`wardian provision receipt v1` |" in line
    )
    fields = set(Receipt.__struct_fields__) - {"manifest_digest", "manifest_version"}
    assert len(fields) == len(Receipt.__struct_fields__) - 2
    assert {name for name in fields if f"`{name}`" not in row} == set()
    assert "manifest digest and version" in row


def test_the_how_to_names_only_options_that_there_are() -> None:
    """Every option of a `wardian` command in the guide is one of that command."""
    import click

    from wardian.cli.main import cli

    text = (ROOT / "docs/how-to/own-a-mesh.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^(wardian [^\n]*)$", text, re.MULTILINE)
    assert len(commands) >= 15
    for line in commands:
        words = line.split("#")[0].split()[1:]
        command: click.Command = cli
        context = click.Context(cli)
        while words and isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        known = {name for each in command.params for name in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
