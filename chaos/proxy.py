"""nginx in front of the servers, with the very lines of docs/operations.md; run by whoever runs this, with nothing outside its folder."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.machine import ROOT
from chaos.program import HOST, Program, accepts

PAGE = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```nginx\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The servers on that page.
PORTS = ("8000", "8001")
CONFIG = """daemon off;
# One process, so that nothing of it stays behind.
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx; proxy_temp_path {folder}/nginx; fastcgi_temp_path {folder}/nginx;
    uwsgi_temp_path {folder}/nginx; scgi_temp_path {folder}/nginx;
{http}
    server {{
        listen {host}:{port} backlog=4096;
{location}
    }}
}}
"""
CONNECTIONS = 15_000


def program_path() -> str | None:
    """Of nginx, where it is installed; its folder is often not searched for others than root."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def missing() -> str | None:
    """What to do when nginx is not there."""
    return None if program_path() else "nginx was not found; on Debian and Ubuntu: apt install nginx"


def proxy(folder: Path, port: int, servers: Sequence[int]) -> Program:
    """Not started yet."""
    nginx = program_path()
    if nginx is None:
        raise FileNotFoundError(missing())
    config = folder / "nginx.conf"
    config.write_text(_config(folder, port, servers), encoding="utf-8")
    (folder / "nginx").mkdir()
    command = (nginx, "-p", str(folder), "-c", str(config), "-e", "stderr")
    return Program("nginx", command, port, folder, {}, partial(accepts, port))


def _config(folder: Path, port: int, servers: Sequence[int]) -> str:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    (location,) = (block for block in blocks if block.startswith("location / {"))
    (http,) = (block for block in blocks if "upstream taskgraph {" in block)
    for shown, server in zip(PORTS, servers, strict=True):
        http = http.replace(f"{HOST}:{shown}", f"{HOST}:{server}")
    return CONFIG.format(
        folder=folder,
        connections=CONNECTIONS,
        http=textwrap.indent(http, 4 * " "),
        location=textwrap.indent(location, 8 * " "),
        host=HOST,
        port=port,
    )
