"""What the API can be told to do, one file for each kind of thing."""
