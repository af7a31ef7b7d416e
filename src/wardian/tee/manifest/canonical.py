"""What a Gramine manifest says, however it is written: its digest, and whether two say the same.

Under SGX the processor measures an enclave's pages, among them the manifest. Where there is no
SGX, the simulated measurement of a role is a digest of its manifest alone, which names every
trusted file by its SHA-256. Comments, spaces, the order of keys and the form of a string do not
matter; the order of a list does, because the order of arguments and of mounts does.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from wardian._internal import wire
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.tee.manifest.source import demand_short_keys

LABEL: Final = "wardian manifest v1"
MAX_MANIFEST_CHARS: Final = 16 * 1024**2
"""A manifest that lists a whole system's libraries takes about 12 million characters."""
MAX_MANIFEST_BYTES: Final = 4 * MAX_MANIFEST_CHARS
"""In UTF-8 no character takes more."""

_MAX_DEPTH: Final = 16  # Gramine's own tables are at most five deep
_INT_RANGE: Final = range(-(2**63), 2**63)  # TOML 1.0: 64-bit signed

_TRUSTED: Final = ("sgx", "trusted_files")
_ANY: Final = ()
_FILLED_IN: Final[Mapping[tuple[str, ...], tuple[object, ...]]] = {
    ("loader", "entrypoint", "uri"): _ANY,  # Gramine's library OS, which its package installed
    ("loader", "entrypoint", "sha256"): _ANY,
    ("sgx", "debug"): (False,),
    ("sgx", "edmm_enable"): (False,),
    ("sgx", "enable_stats"): (False,),
    ("sgx", "use_exinfo"): (False,),
    ("sgx", "enclave_size"): ("256M", "1024G"),
    ("sgx", "max_threads"): (4,),
    ("sgx", "remote_attestation"): ("none",),
    ("sgx", "cpu_features", "avx"): ("unspecified",),
    ("sgx", "cpu_features", "avx512"): ("unspecified",),
    ("sgx", "cpu_features", "amx"): ("unspecified",),
    ("sgx", "cpu_features", "mpx"): ("disabled",),
    ("sgx", "cpu_features", "pkru"): ("disabled",),
}
"""What Gramine's `manifest.py` fills in where a manifest is silent. A version that fills in more is
refused until the manifest says the key itself."""


def measure_manifest(text: str) -> bytes:
    """Return the simulated measurement, 32 bytes, of the manifest `text`.

    Equal for two manifests exactly if they parse to the same table.

    Args:
        text: a rendered Gramine manifest, TOML 1.0, at most `MAX_MANIFEST_CHARS`, untrusted.

    Raises:
        FormatError: not TOML, too long, or a key of more than 16 parts.
        ConfigError: it holds a value that has no single canonical form, or nests too deep; no key
            of a Gramine manifest takes such a value.
    """
    table = parse_manifest(text)
    return hashlib.sha256(wire.fields(LABEL, wire.encode(table))).digest()


def manifest_text(raw: bytes) -> str:
    """Return the text of a manifest file.

    Raises:
        FormatError: not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as err:
        raise FormatError(f"manifest: byte {err.start} is not UTF-8") from err


def parse_manifest(text: str) -> dict[str, Any]:
    """Return the table that `text` is, made of tables, lists, strings, integers and booleans.

    Raises:
        FormatError, ConfigError: as `measure_manifest`.
    """
    if len(text) > MAX_MANIFEST_CHARS:
        raise FormatError(f"manifest: more than {MAX_MANIFEST_CHARS} characters")
    demand_short_keys(text, name="manifest")  # tomllib takes the square of their parts
    try:
        text.encode()  # half a surrogate pair is no character, and has no encoding
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # TOMLDecodeError and UnicodeError are values
        raise FormatError(f"manifest: not valid TOML: {err}"[:300]) from err
    _demand_canonical(table, "", 0)
    return table


def manifest_identity(manifest: Mapping[str, Any]) -> tuple[int, int]:
    """Return ISVPRODID and ISVSVN as the manifest's table says them.

    Raises:
        ConfigError: one of them is not there, or is no number from 0 to 65535.
        PolicyDenied: the manifest asks for debug mode.
    """
    sgx = manifest.get("sgx")
    if not isinstance(sgx, Mapping):
        raise ConfigError("manifest: has no table [sgx]; build it with `wardian enclave build`")
    if sgx.get("debug", False) is not False:
        raise PolicyDenied(
            "manifest: sgx.debug is on: the enclave's host could read its memory", rule="not-debug"
        )
    for key in ("isvprodid", "isvsvn"):
        if type(sgx.get(key)) is not int or sgx[key] not in range(2**16):
            raise ConfigError(f"manifest: sgx.{key} has to be a number from 0 to 65535")
    return sgx["isvprodid"], sgx["isvsvn"]


def _demand_canonical(value: object, where: str, depth: int) -> None:
    """Refuse, naming its key, what JSON cannot carry in exactly one form.

    Dates would become strings, and "not a number" the same as nothing. A finite float has a form,
    but which one is a matter of the library that prints it.
    """
    if depth > _MAX_DEPTH:
        raise ConfigError(f"manifest: more than {_MAX_DEPTH} tables or lists inside each other")
    if isinstance(value, dict):
        for key, part in value.items():
            _demand_canonical(part, f"{where}.{key}" if where else key, depth + 1)
    elif isinstance(value, list):
        for part in value:
            _demand_canonical(part, where, depth + 1)
    elif not isinstance(value, str | int):  # bool is an int
        kind = type(value).__name__
        raise ConfigError(f"manifest: {where[:200]} is a {kind}; write a string or an integer")
    elif isinstance(value, int) and value not in _INT_RANGE:
        raise ConfigError(f"manifest: {where[:200]} does not fit into 64 bits")


def demand_unchanged(wanted: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
    """Refuse a signed manifest that says anything but `wanted`, with Gramine's defaults filled in.

    Args:
        wanted: the table that was judged; every trusted file has its SHA-256.
        signed: the table that `gramine-sgx-sign` wrote, and measured.

    Raises:
        ConfigError: a trusted file has no SHA-256, so that nobody can say whether it changed.
        PolicyDenied: a value was changed, left out or added, or a trusted file stands twice.
    """
    before, after = _by_path(wanted), _by_path(signed)
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            allowed = _FILLED_IN.get(path)
            unchanged = allowed is not None and (
                allowed == _ANY or after[path] in [wire.encode(value) for value in allowed]
            )
        else:
            unchanged = before[path] == after.get(path)
        if not unchanged:
            raise PolicyDenied(
                f"the signed manifest says something else than the one that was judged: "
                f"{'.'.join(path)[:200]} was changed, left out or added",
                rule="manifest-unchanged",
            )


def _by_path(table: Mapping[str, Any]) -> dict[tuple[str, ...], bytes]:
    """Return every value of `table` by the keys that lead to it.

    Raises:
        ConfigError, PolicyDenied: as `demand_unchanged`.
    """
    found: dict[tuple[str, ...], bytes] = {}
    for path, value in _leaves(table, ()):
        if path in found:  # which of its two hashes would count is not for us to guess
            raise PolicyDenied(
                f"{path[-1][:200]} stands twice among the trusted files", rule="manifest-unchanged"
            )
        found[path] = value
    return found


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield every value that is no table, encoded, with the keys that lead to it.

    A trusted file is a value of its own, by its URI: their order means nothing.
    """
    if path == _TRUSTED:
        for entry in value if isinstance(value, list) else [value]:
            if not isinstance(entry, dict) or entry.keys() != {"uri", "sha256"}:
                raise ConfigError("manifest: a trusted file has not exactly a uri and a sha256")
            yield (*path, str(entry["uri"])), wire.encode([entry["uri"], entry["sha256"]])
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path, wire.encode(value)
