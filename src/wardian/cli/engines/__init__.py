"""What the engines need of the security rooms: their files."""
