"""`wardian keeper`: keep a broker's counter, and look at who does."""
