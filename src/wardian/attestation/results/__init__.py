"""What the verifier says: its verdict, and the same in everybody's words, signed (EAR)."""
