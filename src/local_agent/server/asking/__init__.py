"""One request as it came, whose it is, and the count of them."""
