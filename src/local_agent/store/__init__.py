"""The records of flow runs on disk."""
