"""GraphQL: documents, the schema, and what a request selects as SQL."""
