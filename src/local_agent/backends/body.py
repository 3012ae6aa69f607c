"""The body of an HTTP answer, read and unpacked within bounds.

urllib3 unpacks all that it has read at once, and packings within packings: 7 kB of them are gigabytes. Whoever answers
in the API's place must not be able to take this machine's memory.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from local_agent.errors import NotUnderstoodError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import requests

MAX_BYTES = 16 * 1024 * 1024
ACCEPTED = "gzip, deflate"
_PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_FORM = zlib.MAX_WBITS | 32  # gzip's header or zlib's, whichever there is
_CHUNK_BYTES = 64 * 1024
_HINT = "is it the Prefect API that answers there?"


def read(response: requests.Response, url: str) -> bytes:
    """Return the body of an answer whose reading was put off, unpacked where it is packed once, as was asked for.

    `url` is the API's, as it may be shown. Raise NotUnderstoodError where the body is larger than any page: asked for
    in parts, it may not be. Raise what requests and urllib3 raise where it does not come whole.
    """
    chunks = response.raw.stream(_CHUNK_BYTES, decode_content=False)
    if response.headers.get("Content-Encoding", "").strip().lower() in _PACKINGS:
        chunks = _unpacked(chunks, url)
    found, size = [], 0
    for chunk in chunks:
        found.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise NotUnderstoodError(f"{url} answers with more than {MAX_BYTES} bytes", hint=_HINT)
    return b"".join(found)


def _unpacked(chunks: Iterable[bytes], url: str) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_EITHER_FORM)
    for chunk in chunks:
        packed, unpacked = chunk, b""
        while packed or len(unpacked) == _CHUNK_BYTES:
            try:
                unpacked = unpacker.decompress(packed, _CHUNK_BYTES)
            except zlib.error as error:
                raise NotUnderstoodError(f"{url} answers with what cannot be unpacked", hint=_HINT) from error
            yield unpacked
            packed = unpacker.unconsumed_tail
