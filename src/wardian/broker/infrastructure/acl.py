"""Which commands and keys of Redis each role may use, as the text of an ACL file.

Users have the names of the roles. Redis 6.2 and Valkey read this; neither knows a password, only
its SHA-256. It is hygiene and no security (TRUST T25): the queue's content is sealed, and whoever
runs Redis may do with it what it likes.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wardian.crypto.secret import Secret

_FRONT: Final = (
    *("exists", "expire", "info", "mget", "smembers", "srem", "xack", "xadd"),
    *("xautoclaim", "xdel", "xgroup|create", "xgroup|delconsumer", "xpending", "xread"),
)
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "frontend": _FRONT,
        "worker": (
            *("expire", "sadd", "set"),
            *("xack", "xadd", "xdel", "xgroup|create", "xreadgroup"),
        ),
        "zoo": _FRONT,  # on the queue's Redis; it reads another one, whose users are not ours
    }
)
"""By role: those that it sends, and no other. AUTH takes no permission."""


def key_prefix(mesh: str) -> str:
    """Return what every key of a mesh begins with.

    The braces are a hash tag: all keys of a mesh lie in one slot of a cluster.
    """
    return f"{{wardian:{mesh}}}:"


def users_acl(mesh: str, passwords: Mapping[str, Secret]) -> str:
    """Return the ACL file: a line for each role, and none for anybody else.

    Args:
        mesh: its name, whose characters mean nothing in a pattern (`settings.Name`).
        passwords: by role; their SHA-256 stands in the text.
    """
    lines = ["user default off sanitize-payload resetkeys resetchannels -@all"]
    for role, commands in COMMANDS.items():
        digest = hashlib.sha256(passwords[role].reveal()).hexdigest()
        allowed = " ".join(f"+{command}" for command in commands)
        lines.append(
            f"user {role} on sanitize-payload #{digest} resetkeys ~{key_prefix(mesh)}* "
            f"resetchannels -@all {allowed}"
        )
    return "\n".join(lines) + "\n"
