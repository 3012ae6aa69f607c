"""The agent's decisions: poll, take, start, watch, end. `flow_run.py` tells one flow run's life; read it first."""
