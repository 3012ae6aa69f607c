"""The embedded Prefect 1 API: one process, one SQLite file, for one machine and for trying things out.

What a request passes, from the outside in:

    web.py          HTTP: bodies, headers, what came together answered together
    auth.py         who may ask
    engine.py       GraphQL: parse, validate, execute, errors in the words of the real API
    schema.py       the GraphQL schema: queries made from tables.py, mutations from operations.py
    costs.py        what a document would cost, before anything else is done with it (budget.py has the bounds)
    lanes.py        where a long read goes; gate.py: when something large is parsed
    reading.py      a query's selection and where-filter -> one SQL statement (filters.py)
    mutations.py    which function does which mutation
    projects.py flows.py runs.py states.py queue.py agents.py logs.py extras.py
                    what the mutations do
    database.py     SQLite: one connection that writes, a savepoint per mutation (datafile.py: the file itself)
    app.py          builds all of it and runs it

The agent never imports this package: it needs graphql-core, which the agent does not.
"""
