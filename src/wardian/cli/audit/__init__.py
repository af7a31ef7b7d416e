"""`wardian audit`: who got which key, and how anybody can know that the log hides nothing."""
