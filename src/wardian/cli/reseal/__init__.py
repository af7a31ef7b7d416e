"""`wardian reseal`: encrypted models of Analytics Zoo become sealed files."""
