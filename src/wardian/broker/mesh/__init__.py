"""What the owners agreed on and signed: the mesh manifest."""
