"""A manifest as text: what it says, where each key stands, and which comment belongs to it.

`tomllib` says what a file means and forgets where it was said, and TOML has no comments once it is
parsed. The lint needs both: every finding names a line, and a reason is a comment. So the text is
read a second time here, by tokens, and only after `tomllib` accepted it.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from wardian._internal.wire import printable
from wardian.errors import ConfigError, FormatError

Path = tuple[str | int, ...]
"""Names of tables and keys from the top, with the index of an entry where a list is passed."""

MAX_CHARS: Final = 64 * 1024 * 1024
MAX_NESTING: Final = 16
"""Deepest brackets and most parts of a key; Gramine's keys need 5. Readers recurse, `tomllib` in
brackets and others in both, and it takes time quadratic in the parts of a key."""

_MAX_DIGITS: Final = 4000  # Python converts at most 4300 to a number

_TOKEN = re.compile(
    r"""
    (?P<text> \"\"\" (?: [^\\"]++ | \\[\s\S] | "{1,2}(?!") )*+ \"\"\" "{0,2}
            | ''' (?: [^']++ | '{1,2}(?!') )*+ ''' '{0,2}
            | " (?!"") (?: [^\\"\n]++ | \\[^\n] )*+ "
            | ' (?!'') [^'\n]*+ ' )
  | (?P<comment> \# [^\n]*+ )
  | (?P<newline> \n )
  | (?P<space> [ \t\r]++ )
  | (?P<mark> [\[\]{}=,.] )
  | (?P<bare> [^\s\[\]{}=,."'\#]++ )
  | (?P<other> (?: \"{3} | '{3} ) [\s\S]*+ | ["'] [^\n]*+ | [\s\S] )
    """,
    re.VERBOSE,
)
"""A text that is not closed is taken whole, as `other`: to look for its end once more behind each
of its quotes would take the square of its length. `tomllib` refuses it."""

_PLACEHOLDER = re.compile(r"\{\{[^{]*\}\}|\{%[^{]*%\}")
_JINJA_OPENS = re.compile(r"\{\{|\{%|\{#[^\n]*#\}")
_REASON = re.compile(r"#+\s*reason:.*\w", re.IGNORECASE)
_COMMENTED_OUT = re.compile(r"#+\s*[\"'{\[]")


class Token(NamedTuple):
    """A piece of the text: its kind (a group of `_TOKEN`), and the line on which it begins."""

    kind: str
    text: str
    line: int
    start: int


_END = Token("end", "", 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at one place of a manifest.

    Attributes:
        line: from 1; of the nearest table above where a key is missing.
        key: dotted, without the index of an entry; empty where the whole file is meant.
        rule: the name under which `docs/reference/manifest-lint.md` explains it.
        severity: a `refusal` makes the lint refuse the file, a `warning` does not.
        message: what is wrong with the key; does not repeat its name.
        instead: what to write instead, so that it reads on after "write".
    """

    line: int
    key: str
    rule: str
    severity: Literal["refusal", "warning"]
    message: str
    instead: str


def dotted(path: Path) -> str:
    """Return `path` as a manifest writes it, indices left out."""
    return ".".join(part for part in path if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest with the places of its keys."""

    tree: Mapping[str, Any]
    lines: Mapping[Path, int]
    comments: Mapping[int, str]
    occupied: frozenset[int]
    """Lines that hold more than a comment."""
    entries: Mapping[int, int]
    """How many entries of lists begin on a line."""

    def get(self, *names: str) -> Any:
        """Return the value at `names`, or None where a table on the way is missing."""
        found: Any = self.tree
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def line(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest table around it, or 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def has_reason(self, path: Path) -> bool:
        """Return whether the entry at `path` has a comment `# reason: …` of its own.

        It stands at the end of the entry's line, or on lines above it that hold nothing else. Two
        entries on one line have none, because nobody could say whose it is.
        """
        line = self.line(path)
        if self.entries.get(line, 0) > 1:
            return False
        if _REASON.match(self.comments.get(line, "")):
            return True
        above = line - 1
        while above in self.comments and above not in self.occupied:
            if _REASON.match(self.comments[above]):
                return True
            if _COMMENTED_OUT.match(self.comments[above]):
                return False  # what stands above that was said of the entry that is gone
            above -= 1
        return False

    def refusal(self, path: Path, rule: str, message: str, instead: str) -> Finding:
        """Return a refusal at `path`."""
        return self._finding(path, rule, "refusal", message, instead)

    def warning(self, path: Path, rule: str, message: str, instead: str) -> Finding:
        """Return a warning at `path`."""
        return self._finding(path, rule, "warning", message, instead)

    def _finding(
        self,
        path: Path,
        rule: str,
        severity: Literal["refusal", "warning"],
        message: str,
        instead: str,
    ) -> Finding:
        return Finding(
            line=self.line(path),
            key=dotted(path),
            rule=rule,
            severity=severity,
            message=message,
            instead=instead,
        )


def survey(text: str, *, name: str) -> None:
    """Refuse what no parser should be given, whatever the form of the file.

    Raises:
        FormatError: too long, or brackets, keys or numbers beyond any manifest's need.
        ConfigError: a template whose placeholders are not filled in.
    """
    if len(text) > MAX_CHARS:
        raise FormatError(f"{name}:1: {len(text)} characters, at most {MAX_CHARS} are read")
    for token in _bounded(text, name=name):
        if _is_placeholder(token, text):
            raise ConfigError(
                f"{name}:{token.line}: this is a template, and a rendered manifest is needed: "
                f"`gramine-manifest -DNAME=VALUE {name} OUTPUT`, then lint OUTPUT"
            )
        if len(token.text) > _MAX_DIGITS and not token.text.strip("+-_0123456789"):
            raise FormatError(f"{name}:{token.line}: a number of more than {_MAX_DIGITS} digits")


def demand_short_keys(text: str, *, name: str) -> None:
    """Refuse a key of more parts than any manifest needs, in time linear in the text.

    Raises:
        FormatError: such a key, or brackets as deep; names the line.
    """
    if any(row.count(".") >= MAX_NESTING for row in text.split("\n")):  # a key is on one line
        for _ in _bounded(text, name=name):
            pass


def _bounded(text: str, *, name: str) -> Iterator[Token]:
    """Yield the tokens of `text`, up to the first that nests too deep: that is a FormatError."""
    depth = dots = 0
    in_key = True
    for token in _tokens(text):
        if token.kind == "newline":
            in_key, dots = True, 0
        elif token.kind == "mark":
            depth = max(0, depth + (token.text in "[{") - (token.text in "]}"))
            in_key = (in_key or token.text in "[{,") and token.text != "="
            dots = dots + 1 if in_key and token.text == "." else 0
        if depth > MAX_NESTING or dots >= MAX_NESTING:
            raise FormatError(f"{name}:{token.line}: nested deeper than {MAX_NESTING}")
        yield token


def parse_manifest(text: str, *, name: str) -> Manifest:
    """Return `text` parsed as TOML.

    Args:
        text: what `survey` accepted.
        name: of the file, for the error message.

    Raises:
        FormatError: not TOML; names the line.
    """
    try:
        tree = tomllib.loads(text)
    except ValueError as err:
        where = re.search(r"at line (\d+)", str(err))
        line = int(where[1]) if where else text.count("\n") + 1
        reason = printable(re.sub(r" \(at [^)]*\)$", "", str(err)))[:160]
        raise FormatError(f"{name}:{line}: not TOML: {reason}") from err
    reader = _Reader(text)
    reader.read()
    return Manifest(
        tree=tree,
        lines=reader.lines,
        comments=reader.comments,
        occupied=frozenset(reader.occupied),
        entries=reader.entries,
    )


def _tokens(text: str) -> Iterator[Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        piece = match[0]
        yield Token(match.lastgroup or "other", piece, line, match.start())
        line += piece.count("\n")


def _is_placeholder(token: Token, text: str) -> bool:
    if token.kind == "text":
        return _PLACEHOLDER.search(token.text) is not None
    return token.text == "{" and _JINJA_OPENS.match(text, token.start) is not None


def _unquote(text: str) -> str:
    """Return the value of a string token that stands as a part of a key."""
    if "\\" in text and text[0] == '"':
        return str(tomllib.loads(f"key = {text}")["key"])
    return text[1:-1]  # a key is never a multi-line string


class _Reader:
    """Walks the tokens of a text that `tomllib` accepted and notes where everything stands."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.comments: dict[int, str] = {}
        self.occupied: set[int] = set()
        self.entries: Counter[int] = Counter()
        self._lengths: dict[Path, int] = {}  # of the arrays of tables so far
        self._stream = self._significant(text)
        self._token = next(self._stream, _END)

    def _significant(self, text: str) -> Iterator[Token]:
        for token in _tokens(text):
            if token.kind == "comment":
                self.comments[token.line] = token.text
            elif token.kind == "newline":
                yield token
            elif token.kind != "space":
                last = token.line + token.text.count("\n")
                self.occupied.update(range(token.line, last + 1))
                yield token

    def _take(self) -> Token:
        taken, self._token = self._token, next(self._stream, _END)
        return taken

    def _at(self, *marks: str) -> bool:
        return self._token.kind in {"mark", "newline"} and self._token.text in marks

    def read(self) -> None:
        """Note the place of every key and entry."""
        table: Path = ()
        while self._token is not _END:
            if self._at("\n"):
                self._take()
            elif self._at("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        line = self._take().line
        many = self._at("[")
        *parents, last = self._key()
        while self._at("]"):
            self._take()
        path: Path = ()
        for part in parents:
            path = self._within((*path, part), line)
        path = (*path, last)
        self.lines.setdefault(path, line)
        if many:
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            path = (*path, index)
            self._enter(path, line)
        return path

    def _within(self, path: Path, line: int) -> Path:
        """Return `path`, or its newest entry where it is an array of tables."""
        self.lines.setdefault(path, line)
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _enter(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)
        self.entries[line] += 1

    def _key(self) -> list[str]:
        parts = []
        while self._token is not _END and not self._at("=", "]"):
            token = self._take()
            if token.kind in {"text", "bare"}:
                parts.append(_unquote(token.text) if token.kind == "text" else token.text)
        return parts

    def _pair(self, table: Path) -> None:
        line, path = self._token.line, table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._take()  # "="
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._take()
        if opening.kind == "mark" and opening.text == "[":
            self._array(path)
        elif opening.kind == "mark" and opening.text == "{":
            self._inline_table(path)
        else:
            while self._token is not _END and not self._at("\n", ",", "]", "}"):
                self._take()

    def _array(self, path: Path) -> None:
        index = 0
        while self._token is not _END and not self._at("]"):
            if self._at("\n", ","):
                self._take()
                continue
            self._enter((*path, index), self._token.line)
            self._value((*path, index))
            index += 1
        self._take()

    def _inline_table(self, path: Path) -> None:
        while self._token is not _END and not self._at("}"):
            if self._at("\n", ","):
                self._take()
            else:
                self._pair(path)
        self._take()
