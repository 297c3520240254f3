"""Whatever stands in an input reaches MongoDB as a value of its type, or not at all: never as an operator, a key or an expression.

Every input of every field is tried with objects in place of its value, and with texts that look like operators, from a server whose
commands are watched.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as search
from hypothesis import strategies as st
from pymongo import MongoClient

from taskgraph import schema
from tests.conftest import MakeSettings
from tests.live.sockets import connected
from tests.people import Person, registered
from tests.tasks.watching import Watched, watched

pytestmark = pytest.mark.xdist_group("typed inputs")
EXAMPLES = 300
DEPTH = 3
# Stands in every text and object that is sent, so that it is known again wherever it arrives.
MARK = "hostilemark"
BEAS = "what Bea keeps to herself"
OBJECTS: list[Any] = [
    {"$ne": MARK},
    {"$gt": "", "$comment": MARK},
    {"$where": f"sleep(10000) || '{MARK}'"},
    {"$regex": f".*{MARK}?"},
    {f"$set.{MARK}": 1},
    {f"ownerId.{MARK}": {"$exists": True}},
    {"$expr": {"$function": {"body": MARK, "args": [], "lang": "js"}}},
    [{"$ne": MARK}],
]
TEXTS = [
    f"${MARK}",
    f"$$ROOT.{MARK}",
    f"$where{MARK}",
    f"ownerId.{MARK}",
    f"{MARK}.$[]",
    f'{{"$ne": "{MARK}"}}',
    f"' || this.{MARK} || '",
    f"^.*{MARK}",
    f"({MARK}+)+$",
    f"[{MARK}",
    f"{MARK}\\",
    f"{MARK}|.*",
    f"{MARK}\0",
    f'"{MARK}" -x',
]
TASK = "the id of Ada's task"
USUAL: dict[str, Any] = {"Int": 1, "Boolean": True, "DateTime": "2031-01-01T00:00:00Z", "ID": TASK}
# Whose only texts are ids, cursors, passwords, documents or causes, none of which MongoDB is asked for unless it is a real one.
ASK_FOR_NO_TEXT = {
    *(
        "Mutation.changePassword",
        "Mutation.deleteAccount",
        "Mutation.exportMyData",
        "Mutation.refreshSession",
        "Mutation.revertTask",
        "Mutation.revokeSession",
    ),
    *("Query.auditLog", "Query.estimateCost", "Query.node", "Query.nodes", "Query.task", "Subscription.taskEvents"),
    *("Task.asOf", "Task.blockedBy", "Task.blocks", "Task.history"),
}
FITTING: dict[str, st.SearchStrategy[Any]] = {"Int": st.integers(1, 3), "Boolean": st.booleans()}
CREATE = "mutation($title: String!) { createTask(input: {title: $title}) { task { id } } }"
CODES = {"BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED", "UNAUTHENTICATED"}


@dataclass(frozen=True)
class Target:
    """A field with arguments: where it stands, and the document that asks for it."""

    name: str
    operation: str
    arguments: Mapping[str, GraphQLArgument]
    document: str


def built() -> GraphQLSchema:
    return schema.build()._schema


def selection(kind: GraphQLNamedType, depth: int) -> str:
    """Every leaf that needs no argument, two levels deep."""
    if is_leaf_type(kind):
        return ""
    parts = ["__typename"]
    for name, each in (kind.fields if isinstance(kind, GraphQLObjectType) else {}).items():
        inner = get_named_type(each.type)
        if not any(is_required_argument(argument) for argument in each.args.values()) and (is_leaf_type(inner) or depth > 1):
            parts.append(f"{name} {selection(inner, depth - 1)}")
    return "{ " + " ".join(parts) + " }"


def targets() -> Iterator[Target]:
    """Every field with arguments; those of tasks by way of one task."""
    kinds = built().type_map.values()
    with_arguments = {
        kind.name
        for kind in kinds
        if isinstance(kind, GraphQLObjectType)
        and not kind.name.startswith("__")
        and any(each.args for each in kind.fields.values())
    }
    assert with_arguments == {"Query", "Mutation", "Subscription", "Task"}
    for owner, operation in (("Query", "query"), ("Mutation", "mutation"), ("Subscription", "subscription"), ("Task", "query")):
        kind = built().type_map[owner]
        assert isinstance(kind, GraphQLObjectType)
        for name, each in kind.fields.items():
            if not each.args:
                continue
            declared = ", ".join(f"${argument}: {given.type}" for argument, given in each.args.items())
            passed = ", ".join(f"{argument}: ${argument}" for argument in each.args)
            asked = f"{name}({passed}) {selection(get_named_type(each.type), 2)}"
            if owner == "Task":
                declared, asked = f"{declared}, $taskId: ID!", f"task(id: $taskId) {{ {asked} }}"
            yield Target(f"{owner}.{name}", operation, each.args, f"{operation}({declared}) {{ {asked} }}")


TARGETS = {target.name: target for target in targets()}


def made_up(kind: Any) -> Any:
    """A value that fits the type, as short as can be."""
    if isinstance(kind, GraphQLNonNull):
        return made_up(kind.of_type)
    if isinstance(kind, GraphQLList):
        return [made_up(kind.of_type)]
    if isinstance(kind, GraphQLInputObjectType):
        required = {
            # One's own address would be refused as a password.
            name: "correct horse battery" if name == "password" else made_up(each.type)
            for name, each in kind.fields.items()
            if is_required_input_field(each)
        }
        if kind.is_one_of:
            name, each = next(iter(kind.fields.items()))
            required = {name: made_up(GraphQLNonNull(each.type))}
        return required
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    return USUAL.get(kind.name, "someone@example.com")


def placed(kind: Any, value: Any, within: frozenset[str] = frozenset()) -> Iterator[Any]:
    """The type's values with `value` in the place of one input after the other, the type itself first. No type within itself."""
    yield value
    if isinstance(kind, GraphQLNonNull):
        kind = kind.of_type
    if isinstance(kind, GraphQLList):
        for each in placed(kind.of_type, value, within):
            yield [each]
    elif isinstance(kind, GraphQLInputObjectType) and kind.name not in within:
        for name, each in kind.fields.items():
            rest = {} if kind.is_one_of else made_up(kind)
            for inner in placed(each.type, value, within | {kind.name}):
                yield {**rest, name: inner}


@cache
def values_of(kind: Any, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Mostly what fits the type, of hostile texts; now and then an object instead."""
    if isinstance(kind, GraphQLNonNull):
        return values_of(kind.of_type, depth)
    if isinstance(kind, GraphQLList):
        fitting: st.SearchStrategy[Any] = st.lists(values_of(kind.of_type, depth), min_size=1, max_size=2)
    elif isinstance(kind, GraphQLInputObjectType):
        fitting = _members(kind, depth)
    elif isinstance(kind, GraphQLEnumType):
        fitting = st.sampled_from([*kind.values, *TEXTS])
    elif kind.name in FITTING:
        fitting = FITTING[kind.name]
    else:
        fitting = st.sampled_from([*TEXTS, made_up(kind)])
    return st.integers(1, 25).flatmap(lambda roll: st.sampled_from(OBJECTS) if roll == 1 else fitting)


def _members(kind: GraphQLInputObjectType, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    usable: Mapping[str, GraphQLInputField] = {
        name: each
        for name, each in kind.fields.items()
        if depth or is_required_input_field(each) or not isinstance(get_named_type(each.type), GraphQLInputObjectType)
    }
    if kind.is_one_of:
        return st.sampled_from(sorted(usable)).flatmap(
            lambda name: st.fixed_dictionaries({name: values_of(usable[name].type, depth - 1)})
        )
    required = {name: values_of(each.type, depth - 1) for name, each in usable.items() if is_required_input_field(each)}
    optional = {name: values_of(each.type, depth - 1) for name, each in usable.items() if name not in required}
    if not optional:
        return st.fixed_dictionaries(required)
    some = st.sets(st.sampled_from(sorted(optional)), max_size=3)
    return some.flatmap(lambda names: st.fixed_dictionaries(required | {name: optional[name] for name in sorted(names)}))


def attacks() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A field and its variables."""

    @cache
    def of(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        arguments = TARGETS[name].arguments
        required = {each: values_of(given.type) for each, given in arguments.items() if is_required_argument(given)}
        optional = {each: values_of(given.type) for each, given in arguments.items() if each not in required}
        return st.tuples(st.just(name), st.fixed_dictionaries(required, optional=optional))

    return st.sampled_from(sorted(TARGETS)).flatmap(of)


@dataclass
class Site:
    """A watched server, Ada with a task, and Bea with a secret."""

    application: Watched
    ada: Person
    task_id: str = ""
    arrived: set[str] = field(default_factory=set)

    def attack(self, target: Target, variables: Mapping[str, Any]) -> None:
        """Sends it, and looks at what MongoDB was sent and at what came back."""
        sent = json.loads(json.dumps({**variables, "taskId": TASK}).replace(TASK, self.task_id))
        with self.application.watch() as commands:
            if target.operation == "subscription":
                answer = self._over_socket(target.document, sent)
            else:
                response = self.ada.post(target.document, sent)
                assert response.status_code in {200, 400, 401}, response.text
                answer = response.json()
        for command in commands:
            check(command)
            if MARK in str(command):
                self.arrived.add(target.name)
        codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
        assert codes <= CODES, (target.name, sent, answer)
        assert BEAS not in str(answer)

    def _over_socket(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        with connected(f"{self.application.url.replace('http', 'ws', 1)}/graphql", self.ada.token) as socket:
            socket.subscribe(document, variables)
            message = socket.receive()
            return {"errors": message["payload"]} if message["type"] == "error" else dict(message["payload"])


def check(command: Mapping[str, Any]) -> None:
    """That nothing hostile is more than a value in it."""
    for name, part in command.items():
        if name == "pipeline":
            _check_stages(part)
        elif name == "updates":
            for each in part:
                _check_query(each["q"])
                # A list is a pipeline, of expressions.
                (_check_expression if isinstance(each["u"], list) else _check_values)(each["u"])
        elif name in ("filter", "query"):
            _check_query(part)
        else:
            _check_values(part)


def _check_stages(stages: Sequence[Mapping[str, Any]]) -> None:
    for stage in stages:
        for name, part in stage.items():
            if name == "$match":
                _check_query(part)
            elif name in ("$lookup", "$unionWith") and "pipeline" in part:
                _check_stages(part["pipeline"])
                _check_expression({key: value for key, value in part.items() if key != "pipeline"})
            elif name == "$facet":
                for inner in part.values():
                    _check_stages(inner)
            else:
                _check_expression(part)


def _check_query(part: Any) -> None:
    """No code, no operator of the caller's, and patterns that mean no more than their letters."""
    for key, value in _members_of(part):
        assert MARK not in key
        assert key not in {"$where", "$function", "$accumulator"}
        if key == "$expr":
            _check_expression(value)
        if key == "$regex":
            letters = re.sub(r"\\(.)", r"\1", value.removeprefix("^"), flags=re.DOTALL)
            assert re.escape(letters) == value.removeprefix("^")


def _check_expression(part: Any) -> None:
    """A text would be a field's name, or that of a variable, if it began with $; it stands under $literal or does not."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            assert MARK not in key
            assert key not in {"$where", "$function", "$accumulator"}
            if key != "$literal":
                _check_expression(value)
    elif isinstance(part, list | tuple):
        for each in part:
            _check_expression(each)
    elif isinstance(part, str):
        assert not (part.startswith("$") and MARK in part)


def _check_values(part: Any) -> None:
    for key, _ in _members_of(part):
        assert MARK not in key


def _members_of(part: Any) -> Iterator[tuple[str, Any]]:
    """At whatever depth."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield key, value
            yield from _members_of(value)
    elif isinstance(part, list | tuple):
        for each in part:
            yield from _members_of(each)


@pytest.fixture(scope="module")
def running(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Site]:
    with (
        watched(settings, mongo_client, max_cost=100_000, login_failures=1_000_000) as application,
        httpx.Client(timeout=30) as client,
    ):
        url = f"{application.url}/graphql"
        ada, bea = (registered(client, url, name=name, email=None, password="correct horse battery") for name in ("Ada", "Bea"))
        bea.ask(CREATE, {"title": BEAS})
        client.cookies.clear()
        yield Site(application, ada)


@pytest.fixture
def site(running: Site) -> Site:
    """Whatever the last test has done to Ada's task, there is another."""
    running.task_id = running.ada.ask(CREATE, {"title": "mine"})["data"]["createTask"]["task"]["id"]
    return running


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("hostile", OBJECTS, ids=str)
def test_an_object_in_place_of_any_input_gets_nowhere(site: Site, name: str, hostile: Any) -> None:
    target = TARGETS[name]
    for argument, declared in target.arguments.items():
        others = {
            other: made_up(each.type)
            for other, each in target.arguments.items()
            if other != argument and is_required_argument(each)
        }
        for value in placed(declared.type, hostile):
            site.attack(target, others | {argument: value})


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_text_that_looks_like_an_operator_is_a_text(site: Site, name: str) -> None:
    target = TARGETS[name]
    for argument, declared in target.arguments.items():
        others = {
            other: made_up(each.type)
            for other, each in target.arguments.items()
            if other != argument and is_required_argument(each)
        }
        for text in TEXTS:
            for value in placed(declared.type, text):
                site.attack(target, others | {argument: value})
    # Else there would have been nothing to look at.
    assert name in site.arrived or name in ASK_FOR_NO_TEXT


# Threads of the server, in this process, draw random numbers at any time.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@search(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(attack=attacks())
def test_no_combination_of_inputs_reaches_mongodb_as_an_operator(site: Site, attack: tuple[str, dict[str, Any]]) -> None:
    name, variables = attack
    site.attack(TARGETS[name], variables)


@pytest.mark.parametrize(
    "command",
    [
        {"find": "tasks", "filter": {"title": {"$ne": 1}, "$where": "1"}},
        {"find": "tasks", "filter": {"title": {f"a.{MARK}": 1}}},
        {"find": "tasks", "filter": {"titleKey": {"$regex": f".*{MARK}"}}},
        {"aggregate": "tasks", "pipeline": [{"$match": {}}, {"$addFields": {"a": f"${MARK}"}}]},
        {"aggregate": "tasks", "pipeline": [{"$match": {"$expr": {"$eq": ["$a", f"${MARK}"]}}}]},
        {"aggregate": "tasks", "pipeline": [{"$lookup": {"pipeline": [{"$match": {f"${MARK}": 1}}]}}]},
        {"update": "tasks", "updates": [{"q": {}, "u": [{"$set": {"title": f"${MARK}"}}]}]},
        {"update": "tasks", "updates": [{"q": {}, "u": {"$set": {f"title.{MARK}": 1}}}]},
        {"insert": "tasks", "documents": [{f"${MARK}": 1}]},
    ],
)
def test_an_injection_would_be_noticed(command: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check(command)


def test_a_value_is_no_injection() -> None:
    check({"find": "tasks", "filter": {"title": f"${MARK}", "labels": {"$in": [f"${MARK}"]}}})
    check({"update": "tasks", "updates": [{"q": {"_id": 1}, "u": {"$set": {"title": f"${MARK}.x"}}}]})
    check({"update": "tasks", "updates": [{"q": {"_id": 1}, "u": [{"$set": {"title": {"$literal": f"${MARK}"}}}]}]})
    check({"aggregate": "tasks", "pipeline": [{"$match": {"titleKey": {"$regex": "^" + re.escape(f"a.{MARK}|")}}}]})
