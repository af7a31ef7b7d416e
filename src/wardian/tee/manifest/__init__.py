"""What a role consists of, as a Gramine manifest: built, checked, signed and measured."""
