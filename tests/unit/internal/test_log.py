"""Logs are JSON lines with closed fields; an exception's text, which may quote content, stays out."""

import io
import json
import logging

from wardian._internal import log as wlog


def test_an_event_is_one_json_line(monkeypatch) -> None:
    out = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    wlog.configure(role="worker", stream=out)
    log = logging.getLogger("wardian.test")
    wlog.event(log, "model.opened", model="digits", seconds=1.5)
    try:
        raise ValueError("the content")
    except ValueError:
        log.exception("request.failed")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["event"] == "model.opened"
    assert first["model"] == "digits"
    assert first["role"] == "worker"
    assert second["error"] == "ValueError"
    assert "the content" not in out.getvalue()
