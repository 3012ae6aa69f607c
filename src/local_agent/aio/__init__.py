"""What the event loop lacks: time that is passed in, many callers for one request, blocking calls in threads."""
