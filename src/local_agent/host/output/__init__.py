"""Facts about this host as tables and as JSON."""
