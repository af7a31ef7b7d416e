"""Files with secrets in them: theirs whom they are for, and of no more bytes than they may have."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from wardian._internal.files import MAX_PRIVATE_BYTES, read_private, refuse_shared
from wardian.errors import ConfigError


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"hunter2\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_for_its_user_alone_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_private(secret) == b"hunter2\n"


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_a_file_that_is_open_to_others_is_refused_with_its_mode_and_the_fix(
    secret: Path, bit: int
) -> None:
    secret.chmod(0o600 | bit)
    said = re.escape(f"{secret}: other users can read or change it (mode {0o600 | bit:04o}); ")
    with pytest.raises(ConfigError, match=said + "run chmod 600 on it") as caught:
        read_private(secret)
    assert "hunter2" not in str(caught.value)


def test_the_file_is_judged_that_is_read(secret: Path, tmp_path: Path) -> None:
    """Not the link to it, nor what had its name before it was opened."""
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert read_private(link) == b"hunter2\n"
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        read_private(link)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """Nothing lies in it, whatever its mode; so secrets come out of other programs."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"hunter2"))
    writer.start()
    assert read_private(pipe) == b"hunter2"
    writer.join()
    reading, writing = os.pipe()
    os.write(writing, b"from a shell's <( )")
    os.close(writing)
    assert read_private(Path(f"/dev/fd/{reading}")) == b"from a shell's <( )"
    os.close(reading)


def test_a_file_holds_no_more_than_it_may(secret: Path) -> None:
    assert read_private(secret, limit_bytes=8) == b"hunter2\n"
    with pytest.raises(ConfigError, match="larger than 7 bytes"):
        read_private(secret, limit_bytes=7)
    with pytest.raises(ConfigError, match=f"larger than {MAX_PRIVATE_BYTES:,} bytes"):
        read_private(Path("/dev/zero"))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_private(path)


def test_systems_without_modes_have_none_to_refuse(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.chmod(0o666)
    status = secret.stat()
    assert stat.S_IMODE(status.st_mode) == 0o666
    with monkeypatch.context() as patch:
        patch.setattr("wardian._internal.files._HAS_MODES", False)
        refuse_shared(secret, status)
    with pytest.raises(ConfigError):
        refuse_shared(secret, status)
