"""What a document may demand, at either door, and how documents are kept for the next time they come."""

import gc
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from graphql import get_introspection_query

from taskgraph import schema
from taskgraph.server import documents
from taskgraph.server.documents import DocumentRefused, Documents, Prepared
from taskgraph.server.limits import DocumentLimits
from taskgraph.server.plans import Plans
from tests.conftest import MakeSettings, Server, migrated, served
from tests.live.sockets import connected
from tests.people import Person, unpriced

Refuse = Callable[[str], list[tuple[str, str]]]
TYPENAME = "{ __typename }"
PARSE, VALIDATION = "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"
TOO_DEEP = "The operation nests 13 levels deep; 12 are allowed."
TOO_LONG = "The document has more than 50000 characters; send values as variables."
TOO_MANY_ALIASES = "The operation has 31 aliases; 30 are allowed."


def nested(levels: int) -> str:
    """`levels` fields, one in the other."""
    return "{ tasks { nodes " + "{ parent " * (levels - 3) + "{ id }" + " }" * (levels - 1)


def aliased(count: int) -> str:
    return " ".join(f"a{number}: __typename" for number in range(count))


def refusals(person: Person, document: str) -> list[tuple[str, str]]:
    """Code and message of each error; nothing was run."""
    answer = person.ask(document)
    assert "data" not in answer
    return [(error["extensions"]["code"], error["message"]) for error in answer["errors"]]


@pytest.fixture(params=["http", "websocket"])
def refused_with(request: pytest.FixtureRequest, anonymous: Person, server: Server) -> Refuse:
    """`refusals` at either door, as both must keep the same limits."""

    def over_websocket(document: str) -> list[tuple[str, str]]:
        with connected(server.ws_url) as socket:
            socket.subscribe(document)
            return [(error["extensions"]["code"], error["message"]) for error in socket.error()]

    return partial(refusals, anonymous) if request.param == "http" else over_websocket


def test_twelve_levels_are_allowed(anonymous: Person) -> None:
    answer = anonymous.ask(nested(12))
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


@pytest.mark.parametrize(
    "document",
    [
        nested(13),
        nested(13).replace("{ id }", "{ ... on Task { ... { id } } }"),
        "{ ...A } fragment A on Query { tasks { nodes { ...B } } } fragment B on Task " + "{ parent " * 10 + "{ id }" + " }" * 10,
        "{ ...B ...A } fragment B on Query { __typename } fragment A on Query " + nested(13),
    ],
    ids=["plain", "inline", "fragments", "second spread"],
)
def test_thirteen_levels_are_refused_wherever_they_are_written(refused_with: Refuse, document: str) -> None:
    assert refused_with(document) == [(VALIDATION, TOO_DEEP)]


def test_each_operation_of_a_document_is_measured(anonymous: Person) -> None:
    assert refusals(anonymous, f"query A {TYPENAME} query B {nested(13)}") == [
        (VALIDATION, "Operation 'B' nests 13 levels deep; 12 are allowed.")
    ]


def test_introspection_is_not_too_deep(anonymous: Person) -> None:
    answer = anonymous.ask(get_introspection_query(input_value_deprecation=True))
    assert "errors" not in answer
    assert answer["data"]["__schema"]["queryType"]["name"] == "Query"


def test_thirty_aliases_are_allowed(anonymous: Person) -> None:
    assert anonymous.ask(f"{{ {aliased(30)} }}") == {"data": {f"a{number}": "Query" for number in range(30)}}


@pytest.mark.parametrize(
    "document",
    [
        f"{{ {aliased(31)} }}",
        f"{{ ... {{ {aliased(31)} }} }}",
        f"{{ ...F a: __typename }} fragment F on Query {{ {aliased(30)} }}",
        f"{{ ...F ...G b: __typename }} fragment F on Query {{ {aliased(15)} }} fragment G on Query {{ ...F }}",
    ],
    ids=["plain", "inline", "fragment", "fragment used twice"],
)
def test_one_alias_more_is_refused_wherever_it_is_written(refused_with: Refuse, document: str) -> None:
    assert refused_with(document) == [(VALIDATION, TOO_MANY_ALIASES)]


def test_two_thousand_tokens_are_allowed_and_not_one_more(refused_with: Refuse) -> None:
    twelve = "{ node(id: [%s]) { id } }"
    assert {code for code, _ in refused_with(twelve.replace("%s", "1 " * 1988))} == {VALIDATION}
    assert refused_with(twelve.replace("%s", "1 " * 1989)) == [
        (PARSE, "Syntax Error: Document contains more than 2000 tokens. Parsing aborted.")
    ]


@pytest.mark.parametrize(
    "document",
    [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "{ __typename ...A } fragment A on Query { viewer { id } ... { ...B } } fragment B on Query { ...A }",
        "{ ...F0 }" + "".join(f" fragment F{a} on Query {{ {' '.join(f'...F{b}' for b in range(30))} }}" for a in range(30)),
    ],
    ids=["itself", "each other", "inline", "all of thirty each other"],
)
def test_fragments_that_spread_each_other_are_refused(refused_with: Refuse, document: str) -> None:
    first, *_ = errors = refused_with(document)
    assert {code for code, _ in errors} == {VALIDATION}
    assert first[1].startswith("Cannot spread fragment ")
    assert " within itself" in first[1]


def test_errors_are_counted_too(refused_with: Refuse) -> None:
    errors = refused_with("{ " + " ".join(f"x{number}" for number in range(1990)) + " }")
    assert errors[0] == (VALIDATION, "Cannot query field 'x0' on type 'Query'.")
    assert errors[20:] == [(VALIDATION, "Too many validation errors, error limit reached. Validation aborted.")]


@pytest.mark.parametrize(
    "document",
    [
        "{ tasks { nodes { " + "owner { id } " * 400 + "} } }",
        "{ " + "tasks { nodes { id } } " * 200 + "}",
        "{ " + " ".join(f"tasks(first: {number}) {{ totalCount }}" for number in range(200)) + " }",
        "{ "
        + " ".join(f"...F{a}" for a in range(120))
        + " }"
        + "".join(f" fragment F{a} on Query {{ viewer {{ id }} }}" for a in range(120)),
    ],
    ids=["leaves", "nested", "conflicting", "in fragments"],
)
def test_comparing_fields_of_the_same_name_is_given_up_in_time(refused_with: Refuse, document: str) -> None:
    assert refused_with(document)[-1] == (VALIDATION, "Validation aborted.")


def test_a_field_may_be_repeated(anonymous: Person) -> None:
    assert anonymous.ask("{ " + "viewer { id } " * 20 + "}") == {"data": {"viewer": None}}


@pytest.mark.parametrize("document", ["{ a " * 10_000, "{ tasks(filter: " + "[" * 10_000, "{ __typename " + "@a " * 3000 + "}"])
def test_a_document_nested_or_repeated_thousands_of_times_is_no_document(refused_with: Refuse, document: str) -> None:
    ((code, message),) = refused_with(document)
    assert code == PARSE
    assert message.startswith("Syntax Error: Document ")


def test_a_megabyte_of_unknown_fields_is_refused_unread(anonymous: Person) -> None:
    answer = anonymous.post("{ " + "unknown " * 131_072 + "}")
    assert answer.status_code == 413


def test_a_megabyte_of_unknown_fields_is_refused_by_its_length(settings: MakeSettings) -> None:
    """Where an operator has raised the other limits."""
    made = settings(max_body_bytes=2_000_000, max_tokens=1_000_000)
    migrated(made)
    with served(made) as url, httpx.Client(timeout=30) as client:
        person = Person(client, f"{url}/graphql")
        assert refusals(person, "{ " + "unknown " * 131_072 + "}") == [(PARSE, TOO_LONG)]


def test_a_number_of_five_thousand_digits_is_refused_in_plain_words(refused_with: Refuse) -> None:
    assert refused_with("{ tasks(first: " + "1" * 5000 + ") { totalCount } }") == [
        (VALIDATION, "This value does not fit its type.")
    ]


@pytest.mark.parametrize(
    "filling",
    ["#" * 50_000, "#\n" * 25_000, " " * 50_000, "," * 50_000, '{ node(id: "' + "x" * 50_000],
    ids=["comment", "comments", "spaces", "commas", "string"],
)
def test_a_document_of_more_than_fifty_thousand_characters_is_refused_unread(refused_with: Refuse, filling: str) -> None:
    """What is no token costs time, too."""
    assert refused_with(TYPENAME + filling) == [(PARSE, TOO_LONG)]


def test_fifty_thousand_characters_are_allowed(anonymous: Person) -> None:
    assert anonymous.ask(TYPENAME.ljust(50_000)) == {"data": {"__typename": "Query"}}


def test_fifty_operations_are_allowed_and_not_one_more(refused_with: Refuse, anonymous: Person) -> None:
    many = [f"query Q{number} {TYPENAME}" for number in range(51)]
    answer = anonymous.post(" ".join(many[:50]), operation_name="Q49")
    assert unpriced(answer) == {"data": {"__typename": "Query"}}
    assert refused_with(" ".join(many)) == [(VALIDATION, "The document has 51 operations; 50 are allowed.")]


def test_a_thousand_items_may_be_written_out_and_not_one_more(refused_with: Refuse, anonymous: Person) -> None:
    nodes = "{ nodes(ids: [%s]) { id } }"
    (error,) = anonymous.ask(nodes % ('"a" ' * 1000))["errors"]
    assert error["extensions"]["code"] != VALIDATION
    assert refused_with(nodes % ('"a" ' * 1001)) == [(VALIDATION, "A list has 1001 items; 1000 are allowed.")]


def test_an_error_does_not_return_all_that_it_quotes(refused_with: Refuse) -> None:
    """graphql-core names each unknown field and prints the whole value beside it: 140 KB for a request of 5."""
    name = "x" * 10_000
    assert refused_with(f"{{ {name} }}") == [(VALIDATION, f"Cannot query field '{'x' * 480}…")]
    members = " ".join(f"a{number}: 1" for number in range(500))
    errors = refused_with(f"{{ tasks(filter: {{{members}}}) {{ totalCount }} }}")
    assert {code for code, _ in errors} == {VALIDATION}
    assert max(len(message) for _, message in errors) <= 501


@pytest.fixture
def small() -> Documents:
    return fresh()


def fresh() -> Documents:
    return Documents(schema.build(), DocumentLimits(max_depth=12, max_aliases=30, max_tokens=2000), has_introspection=True)


def prepared_and_refused(prepared_by: Documents, text: str) -> DocumentRefused:
    with pytest.raises(DocumentRefused) as refused:
        prepared_by.prepare(text)
    return refused.value


def test_a_document_is_prepared_once(small: Documents) -> None:
    assert small.prepare(TYPENAME) is small.prepare(TYPENAME)


def hot(prepared_by: Documents, text: str) -> Prepared:
    """Prepared, and asked for again."""
    prepared_by.prepare(text)
    return prepared_by.prepare(text)


def test_a_flood_of_documents_leaves_the_hot_ones_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GOOD_BYTES", 4_000_000)
    flooded = fresh()
    once = flooded.prepare("{ once: __typename }")
    kept = {text: hot(flooded, text) for text in (TYPENAME, "{ viewer { id } }", "{ tasks { nodes { id title } } }")}
    for number in range(5_000):
        flooded.prepare(f"{{ a{number}: __typename }}")
    assert {text: flooded.prepare(text) for text in kept} == kept
    assert flooded.prepare("{ once: __typename }") is not once
    assert flooded.kept_bytes <= 4_000_000
    assert (flooded.hits, flooded.misses, flooded.failures) == (6, 5_005, 0)


def test_broken_documents_do_not_push_out_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GOOD_BYTES", 1_000_000)
    monkeypatch.setattr(documents, "FAILED_BYTES", 100_000)
    flooded = fresh()
    good = flooded.prepare(TYPENAME)
    good_bytes = flooded.kept_bytes
    for number in range(5_000):
        prepared_and_refused(flooded, f"{{ {number}")
    assert good_bytes < flooded.kept_bytes <= good_bytes + 100_000
    assert flooded.prepare(TYPENAME) is good
    assert (flooded.hits, flooded.misses, flooded.failures) == (1, 1, 5_000)


def test_a_broken_document_is_refused_the_same_way_again(small: Documents) -> None:
    first, again = prepared_and_refused(small, "{ nothing }"), prepared_and_refused(small, "{ nothing }")
    assert again.code == first.code == VALIDATION
    assert again.errors is first.errors
    assert again is not first


def test_a_long_document_is_kept_too_but_no_giant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GOOD_BYTES", 400_000)
    keeping = fresh()
    long = TYPENAME + "#" * 20_000
    assert keeping.prepare(long) is keeping.prepare(long)
    giant = TYPENAME + "#" * 40_000
    assert keeping.prepare(giant) is not keeping.prepare(giant)


@pytest.mark.parametrize(
    "text",
    [
        "{ __typename }",
        "query ($n: Int) { tasks(first: $n) { nodes { id title status owner { id name } } pageInfo { hasNextPage endCursor } } }",
        "{ tasks { nodes { ...A parent { ...A subtasks { nodes { ...A } } } } } } fragment A on Task { id title owner { id name } }",
        "{ tasks { nodes { " + "id " * 100 + "} } }",
        "{ __typename }" + "#\n" * 500,
        '{ tasks(first: 1, after: "' + "x" * 20_000 + '") { nodes { id } } }',
        "{ __typename } # " + "\N{GRINNING FACE}" * 1000,
        "{ nothing }",
        "{ " + "nothing " * 200 + "}",
        "{ nothing" * 100,
    ],
)
def test_what_documents_take_is_not_underrated(text: str) -> None:
    """Their plans included; what is allowed beyond the estimate is what validating anything leaves in tables."""
    measured, plans = fresh(), Plans(schema.build(), min_calls=1)
    texts = [f"{text}#{number}" for number in range(-1, 40)]

    def prepare(each: str) -> None:
        try:
            operation = measured.prepare(each).operation(None)
        except DocumentRefused:
            return
        values = plans._variables(operation, {})
        assert values is not None
        assert plans._plan(operation, values) is not None

    prepare(texts.pop(0))
    gc.collect()
    estimated = measured.kept_bytes
    tracemalloc.start()
    for each in texts:
        prepare(each)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimated = measured.kept_bytes - estimated - sum(map(sys.getsizeof, texts))  # which were made before
    assert estimated / 4 < taken < estimated + 300_000
