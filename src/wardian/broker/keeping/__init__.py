"""Attested keepers of the broker's own counter: who keeps it, and how a broker asks them."""
