"""Models that answer with text, token by token: a part of an answer is a request (ADR 0029)."""
