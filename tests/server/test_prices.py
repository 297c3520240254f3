"""What operations cost: counted from the document and its variables, shown with every answer, and too much is refused at both doors."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from graphql import (
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    OperationDefinitionNode,
    get_named_type,
    is_composite_type,
    parse,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter

from bench.workloads import WORKLOADS, shapes
from taskgraph import schema
from taskgraph.server.cost import ListSize
from taskgraph.server.prices import BEYOND, Prices
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import connected
from tests.people import Person
from tests.test_readme import TEXTS, blocks

SCHEMA = schema.build()
PRICES = Prices(SCHEMA)
Price = Callable[..., int]
NESTED = "query($n: Int = 100, $m: Int) { tasks(first: $n) { nodes { title subtasks(first: $m) { nodes { id } } } } }"
FILTERED = """query($f: TaskFilter = {isOverdue: true}, $t: String) {
  tasks(first: 1, filter: {and: [$f], title: {contains: $t}}) { nodes { id } }
}"""
BULK = "mutation($input: BulkCreateTasksInput!) { bulkCreateTasks(input: $input) { results { task { owner { id } } } } }"
DELETE = "mutation($where: TaskSelector!) { bulkDeleteTasks(input: {where: $where}) { matchedCount } }"


def priced(document: str, variables: Mapping[str, Any] | None = None) -> int:
    parsed = parse(document)
    (operation,) = (each for each in parsed.definitions if isinstance(each, OperationDefinitionNode))
    return PRICES.price(parsed, operation).charge(variables or {}).cost


@pytest.fixture
def ada(someone: Someone) -> Person:
    return someone()


@pytest.mark.parametrize(
    ("document", "cost"),
    [
        ("{ __typename }", 0),
        ("{ __schema { types { fields { type { name } } } } }", 100),
        ("{ viewer { id name email } }", 1),
        ("{ tasks { nodes { id title } } }", 20),
        ("{ tasks(first: 7) { nodes { id } edges { cursor node { title } } pageInfo { endCursor } } }", 7),
        ("{ tasks(last: 7) { nodes { id } } }", 7),
        ("{ tasks(first: null, last: 3) { nodes { id } } }", 3),
        ("{ tasks(first: 7) { totalCount } }", 17),
        ("{ tasks(first: 7) { nodes { owner { id } } edges { node { assignee { id } } } } }", 21),
        ("{ tasks(first: 7) { nodes { subtasks(first: 3) { totalCount nodes { owner { id } } } } } }", 7 * (1 + 3 + 10 + 3)),
        ('{ searchTasks(query: "a", first: 5) { nodes { id } } }', 20 + 10),
        ('{ tasks(first: 1, filter: {title: {contains: "a", startsWith: "b"}}) { nodes { id } } }', 1 + 2 * 10),
        (
            "{ tasks(first: 1, filter: {status: {in: [TODO, DONE]}, or: [{isBlocked: true}, {}, {not: null}]}) { nodes { id } } }",
            21,
        ),
        ("{ tasks(first: 1, filter: null) { nodes { id } } }", 1),
        ("{ tasks(first: 3) { nodes { subtasks(first: 2, filter: {isOverdue: true}) { nodes { id } } } } }", 3 + 3 * (10 + 2)),
        ("{ taskStats(filter: {isOverdue: true}) { total } }", 10 + 10),
        ('{ nodes(ids: ["a", "b", "c"]) { id ... on Task { owner { id } } } }', 6),
        ('{ nodes(ids: "a") { id } }', 1),
        ('{ node(id: "a") { id ... on Task { owner { id } parent { id } } ... on User { name } } }', 3),
        ('mutation { createTask(input: {title: "a"}) { task { id owner { id } } } }', 11),
        ("subscription { taskEvents { ... on TaskEvent { task { owner { id } } actor { id } } ... on StreamGap { reason } } }", 3),
    ],
)
def test_a_price_is_the_sum_of_weights_times_the_sizes_around_them(document: str, cost: int) -> None:
    assert priced(document) == cost


@pytest.mark.parametrize(
    ("document", "variables", "cost"),
    [
        (NESTED, {}, 100 + 100 * 20),
        (FILTERED, {}, 1 + 10),
        (FILTERED, {"f": None, "t": "a"}, 1 + 10),
        (FILTERED, {"f": {"or": [{"title": {"contains": str(each)}} for each in range(7)]}}, 1 + 7 * 10),
        (FILTERED, {"f": {"labels": {"hasAny": ["a", "b"]}, "dueDate": {"isNull": None}}, "t": "a"}, 1 + 10 + 10),
        (FILTERED, {"f": "nonsense"}, 1 + 10),
        (NESTED, {"n": 10, "m": 3}, 10 + 30),
        (NESTED, {"n": 10, "m": None}, 10 + 200),
        (NESTED, {"n": 10.0, "m": 1}, 20),
        (NESTED, {"n": 1_000_000, "m": 1}, 200),
        (NESTED, {"n": -5, "m": 1}, 2),
        (NESTED, {"n": "many", "m": [1]}, 2),
        ("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["a"] * 30}, 30),
        ("query($id: ID!) { nodes(ids: [$id, $id]) { id } }", {"id": "a"}, 2),
        (BULK, {"input": {"tasks": [{"title": "a"}] * 200}}, 200 * 3),
        (
            BULK.replace("input: $input", 'input: {tasks: [{title: "a"}, {title: "b"}]}').replace(
                "($input: BulkCreateTasksInput!)", ""
            ),
            {},
            6,
        ),
        (DELETE, {"where": {"ids": ["a"] * 40}}, 80),
        (DELETE, {"where": {"filter": {}}}, 200),
        (DELETE, {"where": "nonsense"}, 200),
    ],
)
def test_sizes_come_from_variables_too(document: str, variables: dict[str, Any], cost: int) -> None:
    assert priced(document, variables) == cost


@pytest.mark.parametrize(
    ("selection", "cost"),
    [
        ("viewer { id } viewer { name }", 1),
        ("a: viewer { id } b: viewer { id }", 2),
        ("...A ...B", 8),
        ("...A ... on Query { ...B }", 8),
        ("a: tasks(first: 1) { nodes { ...T } } b: tasks(first: 2) { nodes { ...T } }", 6),
        ("tasks(first: 4) { nodes { ...T ...T owner { email } } }", 8),
    ],
)
def test_what_is_asked_for_twice_costs_once_and_an_alias_costs_again(selection: str, cost: int) -> None:
    a = "fragment A on Query { tasks(first: 4) { nodes { ...T } } }"
    b = "fragment B on Query { tasks(first: 4) { nodes { owner { name } } } }"
    assert priced(f"{{ {selection} }} {a} {b} fragment T on Task {{ owner {{ id }} }}") == cost


@pytest.mark.parametrize(("variables", "cost"), [({"a": True}, 7), ({"a": False}, 1), ({"a": True, "b": True}, 3), ({}, 1)])
def test_what_is_left_out_costs_nothing(variables: dict[str, bool], cost: int) -> None:
    document = """query($a: Boolean = false, $b: Boolean = false) {
        viewer { id } node(id: "a") @include(if: false) { id }
        ... @include(if: $a) { tasks(first: 2) { nodes { id parent @skip(if: $b) { id parent { id } } } } }
    }"""
    assert priced(document, variables) == cost


def test_fragments_that_unfold_are_priced_in_no_time() -> None:
    level = "fragment F{0} on Task {{ a: parent {{ ...F{1} }} b: parent {{ ...F{1} }} }}"
    levels = " ".join(level.format(number, number + 1) for number in range(60))
    began = time.perf_counter()
    assert priced(f"{{ tasks {{ nodes {{ ...F0 }} }} }} {levels} fragment F60 on Task {{ id }}") == BEYOND
    assert time.perf_counter() - began < 1


def test_fragments_that_are_woven_beyond_pricing_are_too_expensive() -> None:
    """Each spread is there under a condition of its own, so no two ways through them are alike."""
    level = "fragment F{0} on Task {{ ...F{1} @include(if: $a{0}) ...F{1} @skip(if: $a{0}) }}"
    levels = " ".join(level.format(number, number + 1) for number in range(30))
    variables = ", ".join(f"$a{number}: Boolean!" for number in range(30))
    began = time.perf_counter()
    assert priced(f"query({variables}) {{ tasks {{ nodes {{ ...F0 }} }} }} {levels} fragment F30 on Task {{ id }}") == BEYOND
    assert time.perf_counter() - began < 1


def test_a_value_that_is_nested_without_end_is_priced_too() -> None:
    value: Any = {"isOverdue": True}
    for _ in range(5_000):
        value = {"not": value, "and": [value]} if value == {"isOverdue": True} else {"not": value}
    assert priced("query($f: TaskFilter) { tasks(first: 1, filter: $f) { nodes { id } } }", {"f": value}) == 1 + 2 * 10


def test_every_list_of_objects_has_a_size() -> None:
    """Its own, or that of the field which it is a part of."""
    sized, unsized = set(), []
    kinds = [
        each for each in SCHEMA._schema.type_map.values() if isinstance(each, GraphQLObjectType) and not each.name.startswith("__")
    ]
    for kind in kinds:
        for name, definition in kind.fields.items():
            directives = definition.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].directives
            inner = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
            if any(isinstance(each, ListSize) for each in directives):
                sized.add(str(get_named_type(inner)))
            elif isinstance(inner, GraphQLList) and is_composite_type(get_named_type(inner)):
                unsized.append((kind.name, name))
    in_memory = {"errors", "changes", "byStatus", "byPriority", "byField", "windows"}
    assert [f"{kind}.{name}" for kind, name in unsized if kind not in sized and name not in in_memory] == []


def test_every_operation_of_the_documentation_and_of_the_benchmark_is_ordinary() -> None:
    printed = [block.text for page in TEXTS for block in blocks(page) if block.language == "graphql"]
    measured = [(each.document, each.variables) for each in (*WORKLOADS, *shapes(node_id="a"))]
    costs = [priced(text) for text in printed] + [priced(*each) for each in measured]
    assert len(costs) > 20
    # The example of one that is refused.
    assert [cost for cost in costs if cost > 700] == [10_100]


@pytest.fixture
def small(settings: MakeSettings) -> Iterator[Server]:
    """Allows 50 points."""
    made = settings(max_cost=50)
    migrated(made)
    with served(made) as url:
        yield Server(url, made, None)  # type: ignore[arg-type]  # not looked at here


@pytest.fixture(params=["http", "websocket"])
def asked(request: pytest.FixtureRequest, small: Server, someone: Someone) -> Callable[..., Any]:
    """What an operation is answered with at either door: the answer, or the errors of one that was not run."""
    person = someone(url=small.url)

    def over_websocket(document: str, variables: Mapping[str, Any] | None = None) -> Any:
        with connected(small.ws_url, person.token) as socket:
            socket.subscribe(document, variables)
            message = socket.receive()
            return message["payload"] if message["type"] == "next" else {"errors": message["payload"]}

    def over_http(document: str, variables: Mapping[str, Any] | None = None) -> Any:
        return person.post(document, variables).json()

    return over_http if request.param == "http" else over_websocket


def test_an_operation_is_refused_above_the_limit_and_not_at_it(asked: Callable[..., Any]) -> None:
    document = "query($n: Int!) { viewer { id } tasks(first: $n) { nodes { id } } }"
    answer = asked(document, {"n": 49})
    assert answer["data"]["tasks"] == {"nodes": []}
    assert answer["extensions"] == {"cost": 50}
    assert asked(document, {"n": 50}) == {
        "errors": [
            {
                "message": "The operation costs 51 points; 50 are allowed. The dearest fields: tasks (50), viewer (1). "
                "Ask for shorter pages or nest fewer of them; estimateCost shows the price of each field.",
                "extensions": {"code": "OPERATION_TOO_EXPENSIVE", "cost": 51, "maxCost": 50},
            }
        ]
    }


def test_aliases_do_not_get_around_the_limit(asked: Callable[..., Any]) -> None:
    aliases = " ".join(f"a{number}: tasks(first: 2) {{ nodes {{ id }} }}" for number in range(26))
    (error,) = asked(f"{{ {aliases} }}")["errors"]
    assert error["extensions"] == {"code": "OPERATION_TOO_EXPENSIVE", "cost": 52, "maxCost": 50}


def test_nothing_is_written_by_a_mutation_that_is_too_expensive(asked: Callable[..., Any]) -> None:
    creations = " ".join(f'a{number}: createTask(input: {{title: "a"}}) {{ task {{ id }} }}' for number in range(6))
    assert [each["extensions"]["code"] for each in asked(f"mutation {{ {creations} }}")["errors"]] == ["OPERATION_TOO_EXPENSIVE"]
    assert asked("{ tasks { nodes { id } } }")["data"] == {"tasks": {"nodes": []}}


def test_a_subscription_costs_what_a_message_costs(small: Server, someone: Someone) -> None:
    document = (
        "subscription($n: Int) { taskEvents { __typename ... on TaskEvent { task { subtasks(first: $n) { nodes { id } } } } } }"
    )
    with connected(small.ws_url, someone(url=small.url).token) as socket:
        socket.subscribe(document, {"n": 49})
        assert socket.receive()["payload"]["extensions"] == {"cost": 50}
        socket.subscribe(document, {"n": 50}, id="2")
        (error,) = socket.error(id="2")
        assert error["extensions"]["cost"] == 51


@pytest.mark.parametrize(("accept", "status"), [("application/json", 200), ("application/graphql-response+json", 400)])
def test_the_status_of_an_operation_that_is_too_expensive_is_that_of_a_document_that_is_refused(
    small: Server, someone: Someone, accept: str, status: int
) -> None:
    answer = someone(url=small.url).post("{ tasks(first: 51) { nodes { id } } }", headers={"accept": accept})
    assert answer.status_code == status
    assert "data" not in answer.json()


def test_an_answer_with_failed_fields_tells_its_price_too(anonymous: Person) -> None:
    answer = anonymous.post("{ tasks(first: 3) { nodes { id } } }").json()
    assert [each["extensions"]["code"] for each in answer["errors"]] == ["UNAUTHENTICATED"]
    assert answer["extensions"] == {"cost": 3}


def test_a_kept_answer_tells_its_price_too(settings: MakeSettings, someone: Someone) -> None:
    made = settings(response_cache_seconds=30)
    migrated(made)
    with served(made) as url:
        person = someone(url=url)
        first, again = (person.post("{ tasks(first: 3) { nodes { id } } }") for _ in range(2))
        assert first.content == again.content
        assert again.json()["extensions"] == {"cost": 3}
