import subprocess
import sys

import pytest

from wardian import crypto

BLOCKED = "fcntl,resource,pwd,grp,termios,uvloop,openvino,numpy"


def test_the_list_of_names_is_sorted_short_and_true():
    assert crypto.__all__ == sorted(crypto.__all__, key=str)
    assert len(crypto.__all__) <= 12
    assert dir(crypto) == crypto.__all__
    assert set(crypto._HOME) == set(crypto.__all__)
    for name in crypto.__all__:
        assert getattr(crypto, name).__name__ == name


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'encrypt'"):
        _ = crypto.encrypt


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_one_module_does_not_load_the_room():
    loaded = run(
        "import sys, wardian.crypto.secret\n"
        "print(*[name for name in sys.modules if name.startswith(('wardian', 'cryptography'))])"
    )
    assert set(loaded) == {
        "wardian",
        "wardian.crypto",
        "wardian.crypto.secret",
        "wardian.errors",
    }


def test_the_room_loads_on_windows_and_macos():
    """As far as can be told here: without what only Linux has."""
    run(
        "import os, sys\n"
        f"for name in {BLOCKED!r}.split(','): sys.modules[name] = None\n"
        "for name in ('fork', 'register_at_fork', 'memfd_create'): delattr(os, name)\n"
        "import wardian.crypto as crypto\n"
        "for name in crypto.__all__: getattr(crypto, name)\n"
    )
