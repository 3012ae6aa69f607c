"""Units of flow runs: their names, and what a scope's properties are. Agent, broker and tools have them from here.

It imports Python's own library and nothing else: the broker, which is privileged, is built on it.
"""
