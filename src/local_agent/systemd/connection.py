"""A connection to a bus that is there whole, or not at all.

jeepney's own way to open one leaves it open where the bus takes it and does not answer: the connection and what reads
it stay for as long as the loop, and a bus allows a user 256 of them.
"""

from __future__ import annotations

import asyncio

from jeepney.auth import BEGIN, AuthenticationError, Authenticator
from jeepney.bus import get_bus
from jeepney.bus_messages import message_bus
from jeepney.io.asyncio import DBusConnection, DBusRouter, Proxy


async def opened(bus: str) -> DBusConnection:
    """Given a bus ("SYSTEM", or an address), connect to it. Raise OSError or EOFError."""
    reader, writer = await asyncio.open_unix_connection(get_bus(bus))
    try:
        await _authenticate(reader, writer)
        connection = DBusConnection(reader, writer)
        async with DBusRouter(connection) as router:
            (connection.unique_name,) = await Proxy(message_bus, router).Hello()
    except BaseException:
        writer.transport.abort()
        raise
    return connection


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    authenticator = Authenticator()
    for request in authenticator:
        writer.write(request)
        await writer.drain()
        answer = await reader.read(1024)
        if not answer:
            raise EOFError("the bus hung up while it was told who asks")
        try:
            authenticator.feed(answer)
        except AuthenticationError as error:
            raise ConnectionRefusedError(f"the bus does not take who asks: {error}") from error
    writer.write(BEGIN)
    await writer.drain()
