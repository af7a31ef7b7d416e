"""The audit log at the broker's desks, and read by whoever audits it."""
