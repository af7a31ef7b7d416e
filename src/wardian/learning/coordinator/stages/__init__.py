"""What a coordinator asks parties with columns of the same records: stage after stage."""
