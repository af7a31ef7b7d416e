"""Other people's interfaces, so that what was written for them runs here."""
