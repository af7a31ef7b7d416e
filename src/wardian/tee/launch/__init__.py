"""Starts a role as an enclave: on the simulated platform, or with the tools of Gramine."""
