"""The oracle itself: it must find what it is there to find, or a campaign without findings says nothing."""

import json
from collections.abc import Sequence

import pytest

from tests.fuzz import campaign
from tests.fuzz.attacks import Attack, Attacks, Known
from tests.fuzz.campaign import SCHEMA, Findings
from tests.fuzz.oracle import Answer, faults, is_refused

FINE = '{"data":{"viewer":null},"extensions":{"cost":1}}'


def refused(message: str = "No.", *, code: str = "BAD_USER_INPUT", **more: object) -> str:
    return json.dumps({"errors": [{"message": message, "extensions": {"code": code}, **more}]})


@pytest.mark.parametrize(
    "answer",
    [
        Answer(FINE, 200),
        Answer(FINE),
        Answer(refused(), 400),
        Answer(refused(path=["a", 0], locations=[{"line": 1, "column": 1}]), 200),
        Answer('{"data":{"a":{"__typename":"GenericError"}}}', 200),
        Answer("Messages must be JSON", closed=4400),
    ],
)
def test_an_answer_that_is_fine_has_no_faults(answer: Answer) -> None:
    assert faults(answer, secrets=["secret"]) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(FINE, 500),
        Answer(FINE, 503),
        Answer("", closed=1006),
        Answer("", closed=1011),
        Answer(FINE, 200, cpu_seconds=2.1),
        Answer(FINE, 200, wall_seconds=20.1),
        Answer('{"data":{"title":"a secret"}}', 200),
        Answer(refused("Traceback (most recent call last)"), 200),
        Answer(refused("'NoneType' object has no attribute 'x'"), 200),
        Answer(refused("invalid literal for int() with base 10: ValueError"), 200),
        Answer(refused("E11000 duplicate key error"), 200),
        Answer(refused("/srv/taskgraph/tasks/reads.py"), 200),
        Answer(refused("unknown operator: $lookup"), 200),
        Answer(refused(code="INTERNAL"), 200),
        Answer(refused(code="BUSY"), 200),
        Answer(refused("x" * 1_001), 200),
        Answer(refused(debug=1), 200),
        Answer('{"errors":[]}', 200),
        Answer('{"errors":[{"message":"No."}]}', 200),
        Answer('{"errors":[{"message":"No.","extensions":{"code":"BAD_USER_INPUT"},"path":[null]}]}', 200),
        Answer('{"data":null}', 200),
        Answer('{"data":{"a":NaN}}', 200),
        Answer("{}", 200),
        Answer("[]", 200),
        Answer("Internal Server Error", 200),
        Answer("", 200),
    ],
)
def test_an_answer_that_is_not_has_some(answer: Answer) -> None:
    assert faults(answer, secrets=["secret"]) != []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (refused(), True),
        ('{"data":{"createTask":null},"errors":[]}', True),
        ('{"data":{"createTask":{"errors":[{"code":"INVALID"}]}}}', True),
        ('{"data":{"createTask":{"errors":[]}}}', False),
        ('{"data":{"a":{"errors":[{"code":"INVALID"}]},"b":{"errors":[]}}}', False),
    ],
)
def test_a_refusal_is_told_from_a_write(text: str, *, is_one: bool) -> None:
    assert is_refused(text) is is_one


class Sabotaged:
    """A server that writes whatever it answers, and after the third request answers no more."""

    url, pid = "", 0

    def __init__(self, answer: str) -> None:
        self._answer = Answer(answer, 200)
        self.sent = 0

    def token(self, _caller: str) -> None:
        """Nobody in particular."""

    def secrets(self, _caller: str) -> Sequence[str]:
        return ()

    def written(self) -> int:
        return self.sent

    def send(self, _attack: Attack) -> Answer:
        self.sent += 1
        return self._answer

    def is_alive(self) -> bool:
        return self.sent < 3

    def close(self) -> None:
        """Nothing is open."""


def sabotaged(answer: str, document: str, monkeypatch: pytest.MonkeyPatch) -> Findings:
    server = Sabotaged(answer)
    monkeypatch.setattr(campaign, "DOORS", {"door": lambda *_given: server})
    return campaign.ran(server, "anonymous", "door", [Attack("a", document, "{}")] * 3)  # type: ignore[arg-type]


def test_a_campaign_notices_what_a_refusal_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = sabotaged(refused(), "mutation { logout { replayed } }", monkeypatch)
    assert findings.count == 3
    assert [fault.partition(" at ")[0] for fault in findings.faults] == [
        *["has written"] * 2,
        "does not answer { __typename } afterwards",
        "has written",
    ]


def test_a_campaign_notices_a_query_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(sabotaged(FINE, "{ viewer { id } }", monkeypatch).faults) == 4
    done = '{"data":{"logout":{"errors":[]}}}'
    assert len(sabotaged(done, "mutation { logout { replayed } }", monkeypatch).faults) == 1


def test_every_argument_and_member_is_attacked() -> None:
    places = {place.name for place in Attacks(SCHEMA, Known("x", [])).places}
    assert {
        "Query.tasks.filter.and",
        "Query.tasks.filter.dueDate.lt",
        "Query.tasks.after",
        "Query.estimateCost.variables",
        "Task.subtasks.orderBy.field",
        "Task.asOf.at.time",
        "Mutation.bulkCreateTasks.input.tasks.blockedBy.ref",
        "Mutation.bulkUpdateTasks.input.where.filter.not",
        "Mutation.login.input.password",
        "Subscription.taskEvents.filter.excludeCausedBy",
    } <= places


def test_a_share_of_the_attacks_has_every_place() -> None:
    attacks = Attacks(SCHEMA, Known("x", []))
    count = 2 * len(attacks.places)
    share = list(campaign.spread(attacks, count, start=0))
    assert count * 0.9 <= len(share) <= count * 1.1
    assert {each.place for each in share} == {place.name for place in attacks.places}
