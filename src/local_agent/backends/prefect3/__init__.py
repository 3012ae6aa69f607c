"""The API of Prefect 3 (and 2.20, and Cloud): flow runs that come from a work pool."""
