"""Certificates and access for what nobody attests: the Redis that carries the queue."""
