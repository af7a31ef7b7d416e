"""Backups of a broker's state, and the owners who bring it back to life on another machine."""
