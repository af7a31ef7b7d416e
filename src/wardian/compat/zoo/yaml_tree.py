"""YAML as a tree of texts with their lines, and nothing more: no object is ever made of it.

PyYAML's safe loader finds the events; what they are put together to here is bounded in size, depth
and number, and every error names a line and never what stands there: such files hold passwords.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from wardian.errors import ConfigError

MAX_BYTES: Final = 128 * 1024
MAX_DEPTH: Final = 12
MAX_NODES: Final = 10_000
_CORE: Final = "tag:yaml.org,2002:"
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value as it was written. `plain`: without quotes, so that an empty one is none."""

    text: str = field(repr=False)  # it may be a password
    line: int
    plain: bool = True

    @property
    def null(self) -> bool:
        """Whether it stands for no value at all."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A list; `line` is its first."""

    line: int
    items: "list[Tree]" = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a mapping and what it is set to."""

    name: str
    line: int
    value: "Tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A mapping; its keys by their name in lower case, as the original compares them.

    Attributes:
        line: its first.
        tag: the name in its `!<...>`, "" without one.
        entries: in the order of the file.
    """

    line: int
    tag: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)


Tree: TypeAlias = Scalar | Sequence | Mapping


def parse_mapping(raw: bytes, *, name: str, tags: frozenset[str] = frozenset()) -> Mapping:
    """Return the one document in `raw`, which is a mapping; an empty one has no entries.

    Args:
        raw: YAML in UTF-8, at most 128 KiB.
        name: the file's name for messages.
        tags: names that a mapping may carry as `!<NAME>` or `!NAME`; any other tag is refused.

    Raises:
        ConfigError: it is not that; or PyYAML is not installed.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES // 1024} KiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: not UTF-8") from None  # the error holds the bytes
    tree = _Builder(name, tags).build(_events(text, name))
    if isinstance(tree, Mapping) and not tree.tag:
        return tree
    if tree is None or (isinstance(tree, Scalar) and tree.null):
        return Mapping(line=1)
    raise ConfigError(f"{name}: not a mapping of keys to values")


def _events(text: str, name: str) -> Iterator[Any]:
    """Yield the parser's events; they are made as they are asked for, so a bound ends the work."""
    try:
        import yaml  # noqa: PLC0415  an extra
    except ImportError as err:
        raise ConfigError(f"{name}: reading YAML needs pip install 'wardian[zoo]'") from err
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{name}{where}: not valid YAML") from None  # the error quotes the file


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come."""

    node: Sequence | Mapping
    key: Scalar | None = None


class _Builder:
    """Puts events together, with a stack of its own in place of the interpreter's."""

    def __init__(self, name: str, tags: frozenset[str]) -> None:
        self._name, self._tags = name, tags
        self._anchors: dict[str, Scalar] = {}
        self._stack: list[_Open] = []
        self._root: Tree | None = None
        self._documents = self._nodes = 0

    def build(self, events: Iterator[Any]) -> Tree | None:
        """Return the root of the document, None if there is no document."""
        for event in events:
            self._take(type(event).__name__, event, event.start_mark.line + 1)
        return self._root

    def _take(self, kind: str, event: Any, line: int) -> None:
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise self._refusal(line, "a second document")
        elif kind == "ScalarEvent":
            self._scalar(event, line)
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise self._refusal(line, "an alias of anything but one value; write it out")
            self._place(self._anchors[event.anchor], line)
        elif kind == "SequenceStartEvent":
            if self._tag(event.tag, line, ("seq",)):
                raise self._refusal(line, "a tag on a list")
            self._open(Sequence(line=line), line)
        elif kind == "MappingStartEvent":
            self._open(Mapping(line=line, tag=self._tag(event.tag, line, ("map",))), line)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._stack.pop()

    def _scalar(self, event: Any, line: int) -> None:
        if self._tag(event.tag, line, ("str", "int", "float", "bool", "null")):
            raise self._refusal(line, "a tag on a value")
        plain = event.style is None and not (event.tag or "").endswith(":str")
        made = Scalar(text=event.value, line=line, plain=plain)
        if event.anchor is not None:
            self._anchors[event.anchor] = made
        self._place(made, line)

    def _tag(self, tag: str | None, line: int, core: tuple[str, ...]) -> str:
        """Return the name in a tag of `tags`, "" for none or one of YAML's own in `core`."""
        if tag is None or tag == "!" or tag in {f"{_CORE}{each}" for each in core}:
            return ""
        if (bare := tag.removeprefix("!")) in self._tags:
            return bare
        raise self._refusal(line, "a tag that is not known here")

    def _open(self, node: Sequence | Mapping, line: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise self._refusal(line, f"nesting deeper than {MAX_DEPTH}")
        self._place(node, line)
        self._stack.append(_Open(node))

    def _place(self, node: Tree, line: int) -> None:
        """Put `node` where the next one belongs."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refusal(line, f"more than {MAX_NODES:,} values")
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif top.key is None:
            if not isinstance(node, Scalar):
                raise self._refusal(line, "a key that is a collection")
            top.key = node
        else:
            self._set(top.node, top.key, node)
            top.key = None

    def _set(self, mapping: Mapping, key: Scalar, value: Tree) -> None:
        known = key.text.lower()
        before = mapping.entries.get(known)
        if before is not None:
            raise self._refusal(key.line, f"a key that line {before.line} sets already")
        mapping.entries[known] = Entry(name=key.text, line=key.line, value=value)

    def _refusal(self, line: int, what: str) -> ConfigError:
        return ConfigError(f"{self._name}, line {line}: {what}")
