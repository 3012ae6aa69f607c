"""The broker: makes scopes for agents that may not make them themselves, and does nothing else.

It runs as uid 0 without a single capability and without a network, and stands alone: it imports nothing of the agent.
What it is asked and what it answers is in `protocol`; whom it answers is in `callers`.
"""
