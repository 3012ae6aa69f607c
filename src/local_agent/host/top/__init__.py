"""`local-agent top`: the screen, its keys and its history."""
