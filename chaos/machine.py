"""Where and with what a run was made, for its page."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from bench.databases import memory_gb
from chaos import proxy
from taskgraph.storage import embedded

OUR_PACKAGES = ("pymongo", "uvicorn", "uvloop", "websockets", "redis")


def described() -> dict[str, str]:
    """Facts by name, in the order of the page."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in OUR_PACKAGES)
    return {
        "machine": f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {memory_gb():.0f} GB of memory",
        "system": f"{system}, Linux {platform.release()}",
        "databases": f"MongoDB {_version(embedded.mongod_binary(), '--version')}, Valkey {_version(embedded.valkey_binary(), '--version')}",
        "proxy": f"nginx {_version(proxy.program_path() or 'nginx', '-v')}",
        "taskgraph": f"Python {platform.python_version()}, {packages}",
    }


def _version(*command: str) -> str:
    """The first number with two dots that it says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "unknown"
