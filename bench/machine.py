"""Where and with what a run was made, for its report."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import redis

from bench import cores, databases
from bench.databases import Databases
from bench.servers import PEERS, PEERS_PYTHON

ROOT = Path(__file__).parents[1]
OUR_PACKAGES = ("strawberry-graphql", "graphql-core", "starlette", "uvicorn", "uvloop", "httptools", "pymongo", "orjson", "PyJWT")
THEIR_PACKAGES = ("strawberry-graphql", "odmantic", "motor", "aiodataloader", "starlette", "uvicorn")
NODE_PACKAGES = (
    "mercurius",
    "fastify",
    "graphql-yoga",
    "@apollo/server",
    "express",
    "mongoose",
    "dataloader",
    "mongodb",
    "graphql",
)


def described(running: Databases) -> dict[str, str]:
    """Facts by name, in the order of the report."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "machine": f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {databases.memory_gb():.0f} GB of memory",
        "system": f"{system}, Linux {platform.release()}",
        "cores": f"servers on {sorted(cores.SERVER)}, load and databases on {sorted(cores.LOAD)}",
        "databases": f"MongoDB {_mongo_version(running)} with a cache of {running.cache_gb:g} GB, Valkey {_valkey_version(running)}",
        "taskgraph": f"Python {platform.python_version()}, {_ours()}",
        "Strawberry + ODMantic": _theirs(),
        "Node servers": f"Node {_output('node', '--version').removeprefix('v')}, {_node()}",
        "load": f"wrk {re.sub(r'^wrk (debian/)?', '', _output('wrk', '--version')).split()[0]}",
    }


def revision() -> str:
    """Of the code that was measured. What lies outside src, such as the page that a run writes, does not matter to the server."""
    git = ("git", "-C", str(ROOT))
    known = _output(*git, "rev-parse", "--short=12", "HEAD") or "unknown"
    is_changed = subprocess.run((*git, "diff", "--quiet", "HEAD", "--", "src"), check=False, capture_output=True).returncode == 1
    return f"{known} with changes" if is_changed else known


def expect_tools() -> None:
    """SystemExit that says what to install, before anything has been started."""
    missing = []
    if shutil.which("wrk") is None:
        missing.append("wrk was not found; on Debian and Ubuntu: apt install wrk")
    if shutil.which("node") is None:
        missing.append("node was not found; install Node 20 or newer")
    if not (PEERS / "node_modules").is_dir() or not PEERS_PYTHON.is_file():
        missing.append("the peers are not installed; run make bench")
    if missing:
        raise SystemExit("\n".join(f"error: {line}" for line in missing))


def _output(*command: str) -> str:
    # wrk prints its version and ends with status 1.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def _ours() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in OUR_PACKAGES)


def _theirs() -> str:
    program = f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {THEIR_PACKAGES}))"
    return f"Python {_output(str(PEERS_PYTHON), '--version').split()[-1]}, {_output(str(PEERS_PYTHON), '-c', program)}"


def _node() -> str:
    files = {name: PEERS / "node_modules" / name / "package.json" for name in NODE_PACKAGES}
    return ", ".join(f"{name} {json.loads(file.read_text())['version']}" for name, file in files.items())


def _mongo_version(running: Databases) -> str:
    with running.client() as client:
        return str(client.server_info()["version"])


def _valkey_version(running: Databases) -> str:
    with redis.Redis.from_url(running.redis_url) as client:
        info = client.info("server")
    assert isinstance(info, dict)  # noqa: S101 - the client also has an asynchronous answer
    return str(info.get("valkey_version", info["redis_version"]))
