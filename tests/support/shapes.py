"""HTTP requests that two programs could read differently, as bytes: how requests are smuggled.

They are those that public suites have (http-garden, h1spec, PortSwigger's HTTP desync list), for RFC 9112. Each is
followed on its connection by a request that must not be answered.
"""

from __future__ import annotations

BODY = b'{"query": "{ hello }"}'
_HOST = b"Host: localhost\r\n"
_JSON = b"Content-Type: application/json\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(BODY)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def post(*lines: bytes, length: bytes = _LENGTH, body: bytes = BODY) -> bytes:
    """Return a POST with these lines in its head."""
    return b"".join([b"POST / HTTP/1.1\r\n", _HOST, _JSON, *lines, length, b"\r\n", body])


def get(line: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    """Return a request with this request line."""
    return b"".join([line, b"\r\n", _HOST, *lines, b"\r\n", body])


GOOD = post()

# Some have a meaning in RFC 9112 that is one and the same for all; they are refused because nobody needs them here.
REFUSED: dict[str, bytes] = {
    # where lines end
    "bare LF everywhere": GOOD.replace(b"\r\n", b"\n"),
    "bare LF after the request line": GOOD.replace(b"\r\n", b"\n", 1),
    "bare LF after a header": post(b"X: y\n"),
    "bare LF in a header": post(b"X: a\nY: b\r\n"),
    "bare LF at the head's end": post(length=_LENGTH + b"\n", body=BODY),
    "bare CR in a value": post(b"X: a\rb\r\n"),
    "bare CR after a header": post(b"X: y\r"),
    "CR CR LF": post(b"X: y\r\r\n"),
    "NUL in a value": post(b"X: a\0b\r\n"),
    "control character in a value": post(b"X: a\x0bb\r\n"),
    # whose it is
    "no Host": GOOD.replace(_HOST, b""),
    "no Host in HTTP/1.0": GOOD.replace(_HOST, b"").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "two Hosts": post(_HOST),
    "two Hosts that differ": post(b"Host: evil.example\r\n"),
    "two addresses in Host": GOOD.replace(_HOST, b"Host: localhost, evil.example\r\n"),
    "user in Host": GOOD.replace(_HOST, b"Host: localhost@evil.example\r\n"),
    "path in Host": GOOD.replace(_HOST, b"Host: localhost/x\r\n"),
    "whole URL of another host": get(b"GET http://evil.example/health HTTP/1.1"),
    "authority": get(b"GET localhost:80 HTTP/1.1"),
    "CONNECT": get(b"CONNECT localhost:80 HTTP/1.1"),
    # how long it is
    "GET with chunks": get(b"GET /health HTTP/1.1", _CHUNKED, body=_CHUNKS),
    "GET with a length": get(b"GET /health HTTP/1.1", b"Content-Length: 5\r\n", body=b"hello"),
    "OPTIONS with a length": get(b"OPTIONS / HTTP/1.1", b"Content-Length: 5\r\n", body=b"hello"),
    "POST with chunks": post(length=_CHUNKED, body=_CHUNKS),
    "POST with chunks in HTTP/1.0": post(length=_CHUNKED, body=_CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "length and chunks": post(_CHUNKED, body=b"0\r\n\r\n"),
    "chunks and length": post(length=_CHUNKED + _LENGTH, body=b"0\r\n\r\n"),
    "identity": post(b"Transfer-Encoding: identity\r\n"),
    "no real coding": post(b"Transfer-Encoding: xchunked\r\n"),
    "chunked, then identity": post(length=b"Transfer-Encoding: chunked, identity\r\n", body=_CHUNKS),
    "chunked twice": post(length=_CHUNKED + _CHUNKED, body=_CHUNKS),
    "tab before chunked": post(b"Transfer-Encoding:\tchunked\r\n", body=b"0\r\n\r\n"),
    "vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "blank before the colon of chunked": post(b"Transfer-Encoding : chunked\r\n", body=b"0\r\n\r\n"),
    "chunked in the next line": post(b"Transfer-Encoding:\r\n chunked\r\n", body=b"0\r\n\r\n"),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n', body=b"0\r\n\r\n"),
    "chunk extension with a bare LF": post(length=_CHUNKED, body=b"5;a\nhello\r\n0\r\n\r\n"),
    "chunk with a sign": post(length=_CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk with a prefix": post(length=_CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "no length": post(length=b""),
    "the same length twice": post(_LENGTH),
    "two lengths": post(b"Content-Length: 3\r\n"),
    "a list of lengths": post(length=b"Content-Length: 22, 22\r\n"),
    "length with a plus": post(length=b"Content-Length: +22\r\n"),
    "length with a minus": post(length=b"Content-Length: -22\r\n"),
    "length in hex": post(length=b"Content-Length: 0x16\r\n"),
    "length with an underscore": post(length=b"Content-Length: 2_2\r\n"),
    "length with a blank": post(length=b"Content-Length: 2 2\r\n"),
    "length with a semicolon": post(length=b"Content-Length: 22;x\r\n"),
    "length in other digits": post(length="Content-Length: ٢٢\r\n".encode()),
    "length in Latin-1's digits": post(length=b"Content-Length: \xb22\r\n"),
    "empty length": post(length=b"Content-Length: \r\n"),
    "blank before the colon of the length": post(length=b"Content-Length : 22\r\n"),
    "length beyond 64 bits": post(length=b"Content-Length: 18446744073709551638\r\n"),
    "length of 5000 digits": post(length=b"Content-Length: " + b"9" * 5000 + b"\r\n"),
    # what a header is
    "blank before the first header": GOOD.replace(_HOST, b" X: y\r\n" + _HOST),
    "value that goes on in the next line": post(b"X: y\r\n z\r\n"),
    "no colon": post(b"Xy\r\n"),
    "no name": post(b": y\r\n"),
    "name with a parenthesis": post(b"X(y: z\r\n"),
    "name with a NUL": post(b"X\0: z\r\n"),
    "name beyond ASCII": post("Xé: z\r\n".encode()),
    "two Content-Types": post(b"Content-Type: text/plain\r\n"),
    "two keys": post(b"Authorization: Bearer a\r\n", b"Authorization: Bearer b\r\n"),
    "two Origins": post(b"Origin: http://localhost\r\n", b"Origin: http://evil.example\r\n"),
    "a hundred thousand headers": post(b"X: y\r\n" * 100_000),
    "more headers than anybody needs": post(*(b"X%d: y\r\n" % number for number in range(200))),
    "a long header": post(b"X: " + b"y" * 70_000 + b"\r\n"),
    "a long path": get(b"GET /" + b"x" * 70_000 + b" HTTP/1.1"),
    # what the request line is
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/1.2": get(b"GET /health HTTP/1.2"),
    "HTTP/2.0": get(b"GET /health HTTP/2.0"),
    "HTTP/11": get(b"GET /health HTTP/11"),
    "http/1.1": get(b"GET /health http/1.1"),
    "more after the version": get(b"GET /health HTTP/1.1x"),
    "HTTP/2's beginning": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100 + b"\r\n\r\n",
    "two blanks": get(b"GET  /health HTTP/1.1"),
    "tabs": get(b"GET\t/health\tHTTP/1.1"),
    "a blank in the path": get(b"GET /health x HTTP/1.1"),
    "a blank after the version": get(b"GET /health HTTP/1.1 "),
    "a NUL in the path": get(b"GET /health\0 HTTP/1.1"),
    "a path beyond ASCII": get(b"GET /health\xff HTTP/1.1"),
    "a fragment": get(b"GET /health#x HTTP/1.1"),
    "no path": get(b"GET  HTTP/1.1"),
    "a method that is none": get(b"G(T /health HTTP/1.1"),
    "bare LF before the request": b"\n" + GOOD,
    "many empty lines before the request": b"\r\n" * 1000 + GOOD,
    # another protocol
    "upgrade to HTTP/2": get(b"GET /health HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "upgrade to a websocket": get(
        b"GET / HTTP/1.1",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ),
    "POST that upgrades": post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
}
