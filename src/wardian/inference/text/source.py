"""Vocabularies as models are published with them, to ours. On the owner's machine alone.

`vocab.txt` (BERT): a token a line. `vocab.json` and `merges.txt` (GPT-2): an object of numbers by
token; and, after a first line that begins with `#version`, two tokens a line.
"""

from pathlib import Path

import msgspec

from wardian.errors import ConfigError, FormatError
from wardian.inference.text.vocabulary import MAX_VOCABULARY_BYTES, Vocabulary, build_vocabulary


def read_vocabulary(path: Path, merges: Path | None) -> bytes:
    """Return the vocabulary in the file `path` as it is sealed.

    Args:
        path: `vocab.txt`; with `merges`, `vocab.json`.
        merges: `merges.txt`.

    Raises:
        ConfigError: a file cannot be read, or is none of these; says what was expected.
    """
    try:
        if merges is None:
            made = Vocabulary(kind="wordpiece", tokens=_lines(path))
        else:
            made = Vocabulary(kind="byte-bpe", tokens=_numbered(path), merges=_merges(merges))
        return build_vocabulary(made)
    except FormatError as err:
        raise ConfigError(f"{path}: {err}") from err


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_VOCABULARY_BYTES:
            raise ConfigError(f"{path}: larger than 16 MiB")
        return path.read_bytes().decode()
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a text in UTF-8") from err


def _lines(path: Path) -> list[str]:
    # Not `splitlines`: there are tokens that are one of its many line ends.
    lines = [line.removesuffix("\r") for line in _text(path).split("\n")]
    if lines[-1] == "":
        lines.pop()
    if lines and lines[0].startswith("{"):
        raise ConfigError(f"{path}: a vocab.json needs its merges.txt, too: --merges")
    return lines


def _numbered(path: Path) -> list[str]:
    try:
        numbers = msgspec.json.decode(_text(path), type=dict[str, int])
    except (msgspec.DecodeError, RecursionError) as err:
        raise ConfigError(f"{path}: no vocab.json: an object of numbers by token") from err
    tokens = sorted(numbers, key=numbers.__getitem__)
    if [numbers[token] for token in tokens] != list(range(len(tokens))):
        raise ConfigError(f"{path}: the numbers of its tokens have gaps, or one is there twice")
    return tokens


def _merges(path: Path) -> list[str]:
    lines = _lines(path)
    return lines[1:] if lines and lines[0].startswith("#version") else lines
