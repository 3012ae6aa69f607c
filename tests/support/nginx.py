"""Debian's nginx before an API, as people put it there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from support.api_client import wait_until
from support.ports import ports_to_try
from support.unpacked import nginx

_PATHS = "\n".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
_CONFIG = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ }}
http {{
    access_log off;
    {paths}
    server {{
        listen 127.0.0.1:{port};
        {more}
        location / {{ proxy_pass {upstream}; }}
    }}
}}
"""


@contextmanager
def nginx_before(folder: Path, upstream: str, more: str) -> Iterator[str]:
    """Run nginx before an API, and give its URL."""
    folder.mkdir()
    (port,) = ports_to_try()[:1]
    (folder / "nginx.conf").write_text(_CONFIG.format(paths=_PATHS, port=port, more=more, upstream=upstream))
    command = [str(nginx()), "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), lambda: (folder / "out").read_text())
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        build_opener(ProxyHandler({})).open(Request(url, method="HEAD"), timeout=10).close()
    except OSError as error:
        return hasattr(error, "code")  # any HTTP answer will do
    return True


@contextmanager
def with_password(folder: Path, upstream: str) -> Iterator[str]:
    """Run nginx before an API that asks for a user and a password, and give its URL with both in it."""
    users = folder.with_name("users")
    users.write_text("flows:{PLAIN}s3cret\n")
    with nginx_before(folder, upstream, f'auth_basic "prefect"; auth_basic_user_file {users};') as url:
        yield url.replace("http://", "http://flows:s3cret@")
