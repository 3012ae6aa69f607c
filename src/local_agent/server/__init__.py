"""The embedded Prefect 1 API: one process, one SQLite file, for one machine and for trying things out.

What a request passes, from the outside in:

    web.py          HTTP: bodies, headers, one answer in one send
    auth.py         who may ask
    engine.py       GraphQL: parse, validate, execute, errors in the words of the real API
    schema.py       the GraphQL schema: queries made from tables.py, mutations from operations.py
    reading.py      a query's selection and where-filter -> one SQL statement (filters.py, ordering.py)
    mutations.py    which function does which mutation
    projects.py flows.py runs.py states.py queue.py agents.py logs.py extras.py
                    what the mutations do
    database.py     SQLite: one connection, one transaction a request, a savepoint per mutation
    app.py          builds all of it and runs it

The agent never imports this package: it needs graphql-core, which the agent does not.
"""
