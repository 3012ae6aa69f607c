"""HTTP/1.1 over TCP and the unix socket, and who may come in."""
