"""Two brokers of one mesh: one decides, the other copies it commit by commit and takes over."""
