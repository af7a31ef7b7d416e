"""Answers that come in parts: the front end asks for one after the other (ADR 0029)."""
