"""`local-agent install`: files that run an agent as a service, made from the flags of `start`."""
