"""The queue's Redis: its files, and a server that `wardian` runs itself."""
