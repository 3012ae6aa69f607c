"""The embedded Prefect 1 API: one process, one SQLite file, for one machine and for trying things out.

What a request passes, from the outside in:

    http/           TCP and the unix socket, who may come in, heads and bodies, what came together answered together
    asking/         whose request it is
    bounds/         what a document would cost, before anything else is done with it, and whose turn it is
    engine.py       GraphQL: parse, validate, execute, errors in the words of the real API
    graphql/        the schema, documents, and a query's selection and where-filter -> one SQL statement
    operations/     which function does which mutation, and what each does
    input/          JSON taken apart at the entrance
    data/           SQLite: one connection that writes, a savepoint per mutation; tables, filters, readers
    app.py          builds all of it and runs it

The agent never imports this package: it needs graphql-core, which the agent does not.
"""
