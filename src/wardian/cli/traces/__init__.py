"""`wardian traces`: spans from the lines of a log to an OpenTelemetry collector."""
