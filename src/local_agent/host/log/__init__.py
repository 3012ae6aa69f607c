"""`local-agent logs`: what was said about a flow run."""
