"""What the broker remembers: encrypted, whole, the newest; and the audit log."""
