"""What an attester's TEE signs: the structure of quotes. Nothing is verified here."""
