"""The client that verifies evidence before it sends; runs wherever Python does."""
