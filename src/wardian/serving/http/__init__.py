"""HTTP/1.1 over TLS 1.3: bytes to requests and back, with a limit on everything."""
