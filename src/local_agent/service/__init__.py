"""The agent as others meet it: systemd, its operators, /api/health and /metrics."""
