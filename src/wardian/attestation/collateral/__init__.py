"""What the vendor signs about a model of platform: read, verified, kept, and asked of a service."""
