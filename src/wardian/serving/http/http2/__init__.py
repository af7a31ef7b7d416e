"""HTTP/2 over TLS 1.3 (RFC 9113): frames, streams and flow control, with a limit on everything."""
