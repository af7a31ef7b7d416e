"""The engine Ray: an actor for each worker, in a cluster with mutual TLS and a token."""
