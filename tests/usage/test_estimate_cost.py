"""`estimateCost` says what an operation would be charged, or why it would not be run, and runs nothing."""

from typing import Any

import httpx
import pytest

from bench.workloads import WORKLOADS, shapes
from tests.conftest import MakeSettings, Someone, migrated, served
from tests.people import PASSWORD, Person, registered
from tests.tasks.operations import data, refusal

ESTIMATE = """query($document: String!, $operationName: String, $variables: JSON) {
  estimateCost(document: $document, operationName: $operationName, variables: $variables) {
    cost depth nodeCount allowed rejectedBecause byField { path cost }
  }
}"""
PAGE = "query($n: Int!) { tasks(first: $n) { totalCount nodes { title owner { name } sub: subtasks(first: 3) { nodes { id } } } } }"


@pytest.fixture
def ada(someone: Someone) -> Person:
    return someone()


def estimate(person: Person, document: str, variables: dict[str, Any] | None = None, name: str | None = None) -> Any:
    given = {"document": document, "operationName": name, "variables": variables}
    return data(person, ESTIMATE, given)["estimateCost"]


def test_each_field_has_its_price(ada: Person) -> None:
    assert estimate(ada, PAGE, {"n": 10}) == {
        "cost": 60,
        "depth": 5,
        "nodeCount": 1 + 10 + 10 + 10 + 30,
        "allowed": True,
        "rejectedBecause": None,
        "byField": [
            {"path": "tasks", "cost": 10},
            {"path": "tasks.totalCount", "cost": 10},
            {"path": "tasks.nodes", "cost": 0},
            {"path": "tasks.nodes.owner", "cost": 10},
            {"path": "tasks.nodes.sub", "cost": 30},
            {"path": "tasks.nodes.sub.nodes", "cost": 0},
        ],
    }


def test_what_is_estimated_is_what_is_charged(ada: Person) -> None:
    for each in (*WORKLOADS, *shapes(node_id=ada.id)):
        charged = ada.post(each.document, each.variables).json()["extensions"]["cost"]
        estimated = estimate(ada, each.document, each.variables)
        assert (estimated["cost"], estimated["allowed"]) == (charged, True), each.name
        assert sum(field["cost"] for field in estimated["byField"]) == charged, each.name


@pytest.mark.parametrize(
    ("document", "variables", "name", "reason"),
    [
        ("{ viewer", None, None, "Syntax Error: Expected Name, found <EOF>."),
        ("{ nothing }", None, None, "Cannot query field 'nothing' on type 'Query'."),
        (
            "query A { __typename } query B { __typename }",
            None,
            None,
            "The document has several operations; say which by operationName.",
        ),
        ("{ __typename }", None, "A", "The document has no operation named 'A'."),
    ],
)
def test_what_is_no_operation_has_no_price_but_a_reason(
    ada: Person, document: str, variables: Any, name: str | None, reason: str
) -> None:
    assert estimate(ada, document, variables, name) == {
        "cost": 0,
        "depth": 0,
        "nodeCount": 0,
        "allowed": False,
        "rejectedBecause": reason,
        "byField": [],
    }


@pytest.mark.parametrize(
    ("document", "variables", "cost", "reason"),
    [
        (PAGE, {"n": "ten"}, None, "Variable '$n' has invalid value: Int cannot represent non-integer value: 'ten'"),
        (PAGE, {}, None, "Variable '$n' has invalid value: Expected a value of non-null type 'Int!' to be provided."),
        (
            "{ tasks { nodes " + "{ parent " * 11 + "{ id }" + " }" * 13,
            None,
            20 + 11 * 20,
            "The operation nests 14 levels deep; 12 are allowed.",
        ),
        ("{ tasks(first: 100) { nodes { subtasks(first: 50) { nodes { id } } } } }", None, 5100, "The operation costs 5100 points"),
    ],
)
def test_an_operation_that_is_refused_has_a_reason_and_a_price(
    ada: Person, document: str, variables: Any, cost: int | None, reason: str
) -> None:
    estimated = estimate(ada, document, variables)
    assert estimated["allowed"] is False
    assert estimated["rejectedBecause"].startswith(reason)
    assert cost is None or estimated["cost"] == cost


def test_nothing_is_run(ada: Person) -> None:
    document = 'mutation { createTask(input: {title: "never"}) { task { id } } }'
    assert estimate(ada, document)["cost"] == 10
    assert data(ada, "{ tasks { totalCount } }") == {"tasks": {"totalCount": 0}}


def test_one_operation_of_several_is_priced(ada: Person) -> None:
    document = "query A { viewer { id } } subscription B { taskEvents { ... on TaskEvent { actor { id } } } }"
    assert [estimate(ada, document, name=name)["cost"] for name in ("A", "B")] == [1, 2]


def test_fragments_that_unfold_without_end_are_priced_as_beyond_everything(ada: Person) -> None:
    level = "fragment F{0} on Task {{ ...F{1} @include(if: $a{0}) ...F{1} @skip(if: $a{0}) }}"
    levels = " ".join(level.format(number, number + 1) for number in range(20))
    variables = ", ".join(f"$a{number}: Boolean = true" for number in range(20))
    estimated = estimate(ada, f"query({variables}) {{ tasks {{ nodes {{ ...F0 }} }} }} {levels} fragment F20 on Task {{ id }}")
    assert (estimated["cost"], estimated["allowed"], estimated["byField"]) == (2**31 - 1, False, [])


def test_variables_must_be_an_object(ada: Person) -> None:
    given = {"document": "{ __typename }", "variables": [1]}
    assert refusal(ada, ESTIMATE, given) == ("BAD_USER_INPUT", "variables must be an object or null.")


def test_nobody_in_particular_may_not_ask(anonymous: Person) -> None:
    code, _ = refusal(anonymous, ESTIMATE, {"document": "{ __typename }"})
    assert code == "UNAUTHENTICATED"


def test_a_reason_shows_nothing_of_our_inside(ada: Person) -> None:
    """graphql-core quotes the exception that a value causes in it."""
    document = "query($f: TaskFilter) { tasks(filter: $f) { totalCount } }"
    found = estimate(ada, document, {"f": {"priority": {"eq": "\u0130"}}})
    assert found["allowed"] is False
    assert "TaskPriority" in found["rejectedBecause"]
    assert "index" not in found["rejectedBecause"]


def test_production_does_not_guess_what_was_meant_here_either(settings: MakeSettings, ada: Person) -> None:
    document, variables = "query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": {"titel": {"eq": "x"}}}
    assert "Did you mean" in estimate(ada, document, variables)["rejectedBecause"]
    made = settings(introspection="false")
    migrated(made)
    with served(made) as url, httpx.Client(timeout=30) as client:
        person = registered(client, f"{url}/graphql", name="Ada", email=None, password=PASSWORD)
        assert "Did you mean" not in estimate(person, document, variables)["rejectedBecause"]
