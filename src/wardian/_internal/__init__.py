"""What every room may use: strict wire forms, settings files, logging, metrics, the clock."""
