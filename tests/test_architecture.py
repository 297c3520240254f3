"""Who may import whom: one order from left to right, so that the domains never knot together. A new module needs a place in it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "taskgraph"
# A module may import what stands to its left; what belongs to nobody stands left of what serves somebody.
ORDER = {
    "errors": (),
    "settings": (),
    "logs": (),
    "storage": (
        *(
            "clock",
            "base64url",
            "cancelling",
            "tether",
            "child",
            "data_folder",
            "mongo",
            "redis",
            "merged_reads",
            "loader",
            "versions",
            "expiry",
            "audit_log",
            "group_commit",
            "paging",
        ),
        *(
            "event_log",
            "stored_events",
            "idempotency",
            "change_tail",
            "event_positions",
            "event_hub",
            "migrate",
            "embedded",
        ),
    ),
    "server": (
        *(
            "gate",
            "frames",
            "socket",
            "waiting",
            "deadline",
            "attendance",
            "enums",
            "cost",
            "fields",
            "scalars",
            "relay",
            "payloads",
            "limits",
            "one_of",
            "plan",
            "source",
            "leaves",
            "variables",
            "arguments",
            "compiler",
            "price_tags",
            "price_shapes",
            "prices",
            "plans",
            "two_part_cache",
            "documents",
            "executor",
            "estimates",
            "durations",
            "rate_limit",
            "response_cache",
            "streams",
            "trusted_documents",
            "persisted",
            "csrf",
            "compression",
            "revalidation",
            "security_headers",
            "parameters",
            "admission",
            "one_write",
            "http",
            "websocket",
        ),
        *("health", "metrics", "page", "bounded_protocol", "cors"),
    ),
    "context": (),
    "accounts": (
        *(
            "model",
            "passwords",
            "tokens",
            "reads",
            "audit",
            "sessions",
            "live_sessions",
            "sign_ins",
            "login_throttle",
            "credentials",
        ),
        *("erasure", "writes", "cookies", "gate", "export_links", "schema", "audit_schema", "export", "download"),
    ),
    "tasks": (
        *("model", "events", "orders", "criteria", "rules", "refusals", "reads", "history", "neighbours"),
        *("work", "graph", "creation", "writes", "dependencies", "bulk", "retention", "erasure", "purge"),
        *(
            "enums",
            "filters",
            "inputs",
            "history_schema",
            "task_schema",
            "schema",
            "event_schema",
            "error_schema",
            "graph_schema",
            "bulk_schema",
            "export",
        ),
    ),
    "usage": ("schema",),
    "schema": (),
    "demo": (),
    "seed": (),
    "formats": ("record", "fields", "taskwarrior", "github_issues", "table", "files"),
    "takeout": (),
    "transfer": (),
    "app": (),
    "serve": (),
    "doctor": (),
    "dev": (),
    "__main__": (),
}


@dataclass(frozen=True)
class Module:
    """One file below src/taskgraph; `path` is () for the package itself, ("tasks", "reads") for tasks/reads.py."""

    path: tuple[str, ...]
    tree: ast.Module
    is_package: bool

    @property
    def shown(self) -> str:
        return "/".join(self.path) + ("/__init__.py" if self.is_package else ".py")

    @property
    def place(self) -> tuple[int, int]:
        return place(self.path)


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        *folders, name = file.relative_to(SOURCE).with_suffix("").parts
        is_package = name == "__init__"
        path = tuple(folders) if is_package else (*folders, name)
        found.append(Module(path, ast.parse(file.read_text(encoding="utf-8")), is_package))
    return tuple(found)


def place(path: tuple[str, ...]) -> tuple[int, int]:
    """Position in ORDER; ValueError or KeyError when there is none."""
    layer, *rest = path
    within = ORDER[layer]
    return list(ORDER).index(layer), within.index(rest[0]) if within else 0


def imports(tree: ast.AST) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and full name of everything imported, as deep as it is written: ("taskgraph", "storage", "mongo", "Database")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, ("." * node.level, *(node.module or "").split("."), alias.name)[0 if node.level else 1 :]


def against_the_order(module: Module) -> Iterator[str]:
    known = {each.path for each in modules() if not each.is_package}
    for line, name in imports(module.tree):
        if name[0].startswith("."):
            yield f"{module.shown}:{line} imports by dots; write the whole name"
        if name[0] != "taskgraph":
            continue
        target = name[1:3] if name[1:3] in known else name[1:2]
        if target not in known:
            yield f"{module.shown}:{line} imports the package {'.'.join(name[:-1])}, which holds nothing"
        elif place(target) >= module.place:
            yield f"{module.shown}:{line} imports {'/'.join(target)}.py, which does not stand to its left in ORDER"


def hidden_imports(module: Module) -> Iterator[str]:
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for line, name in imports(function):
                yield f"{module.shown}:{line} imports {'.'.join(name)} inside {function.name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.alias):
            text = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else node.name
            if text == "TYPE_CHECKING":
                yield f"{module.shown} uses TYPE_CHECKING"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("taskgraph."):
            names = tuple(node.value.partition(":")[0].split(".")[1:])
            # uvicorn finds the application of a worker process by its name; that is no import of ours.
            if (SOURCE / "/".join(names)).with_suffix(".py").is_file() and ":" not in node.value:
                yield f"{module.shown}:{node.lineno} names {node.value}, as a hidden import would"


def shows_graphql(path: tuple[str, ...]) -> bool:
    match path:
        case (name,):
            return name in {"context", "schema"}
        case ("server", _):
            return True
        case (_, name):
            return name in {"filters", "inputs", "schema"} or name.endswith("_schema")
    return False


def snippet(path: tuple[str, ...], text: str) -> Module:
    return Module(path, ast.parse(text), is_package=False)


def test_every_module_has_a_place_and_every_place_a_module() -> None:
    placed = {(layer, *([name] if name else [])) for layer, names in ORDER.items() for name in names or ("",)}
    assert {module.path for module in modules() if not module.is_package} == placed


def test_packages_hold_nothing() -> None:
    """Otherwise importing one module would import its neighbours, in an order of their own."""
    assert [module.shown for module in modules() if module.is_package and list(imports(module.tree))] == []


def test_imports_point_to_the_left() -> None:
    assert [breach for module in modules() if not module.is_package for breach in against_the_order(module)] == []


def test_imports_stand_at_the_top_and_count_at_run_time() -> None:
    assert [breach for module in modules() for breach in hidden_imports(module)] == []


def test_graphql_types_are_made_only_where_the_api_is_shown() -> None:
    users = [module for module in modules() if any(name[0] == "strawberry" for _, name in imports(module.tree))]
    assert [module.shown for module in users if not shows_graphql(module.path)] == []


def test_the_product_does_not_need_its_tests() -> None:
    tested_with = {"tests", "pytest", "hypothesis", "httpx"}
    assert [module.shown for module in modules() if any(name[0] in tested_with for _, name in imports(module.tree))] == []


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        (
            ("storage", "mongo"),
            "from taskgraph.server import http",
            "storage/mongo.py:1 imports server/http.py, which does not stand to its left in ORDER",
        ),
        (
            ("tasks", "reads"),
            "\nimport taskgraph.tasks.writes",
            "tasks/reads.py:2 imports tasks/writes.py, which does not stand to its left in ORDER",
        ),
        (
            ("accounts", "reads"),
            "from taskgraph.tasks.reads import page",
            "accounts/reads.py:1 imports tasks/reads.py, which does not stand to its left in ORDER",
        ),
        (
            ("app",),
            "def f():\n    from taskgraph import dev",
            "app.py:2 imports dev.py, which does not stand to its left in ORDER",
        ),
        (("app",), "from taskgraph.tasks import TASK", "app.py:1 imports the package taskgraph.tasks, which holds nothing"),
        (("tasks", "reads"), "from . import model", "tasks/reads.py:1 imports by dots; write the whole name"),
    ],
)
def test_an_import_against_the_order_is_noticed(path: tuple[str, ...], text: str, breach: str) -> None:
    assert list(against_the_order(snippet(path, text))) == [breach]


@pytest.mark.parametrize(
    ("text", "breaches"),
    [
        ("async def f():\n    import json", ["app.py:2 imports json inside f"]),
        ("from typing import TYPE_CHECKING", ["app.py uses TYPE_CHECKING"]),
        ("import_module('taskgraph.tasks.reads')", ["app.py:1 names taskgraph.tasks.reads, as a hidden import would"]),
    ],
)
def test_a_hidden_import_is_noticed(text: str, breaches: list[str]) -> None:
    assert list(hidden_imports(snippet(("app",), text))) == breaches
