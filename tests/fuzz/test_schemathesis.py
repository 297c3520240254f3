"""What schemathesis makes of the schema: documents of any shape, valid ones and ones that break a rule, judged by our oracle."""

import os

import pytest
import schemathesis
from graphql import print_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.graphql import nodes
from schemathesis.schemas import BaseSchema

from tests.fuzz import oracle
from tests.fuzz.attacks import Attack
from tests.fuzz.campaign import SCHEMA, Site
from tests.fuzz.doors import Http
from tests.fuzz.values import CURSORS, DATES

# For each root field and mode.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
pytestmark = pytest.mark.xdist_group("fuzz")


@pytest.fixture(scope="module")
def described() -> BaseSchema:
    """The scalars are of our own making, so it has to be told of them."""
    texts = st.text(max_size=30)
    for name, usual in {"DateTime": DATES, "EventCursor": CURSORS, "JSON": ("", "{}")}.items():
        schemathesis.graphql.scalar(name, (st.sampled_from(usual) | texts).map(nodes.String))
    return schemathesis.graphql.from_file(print_schema(SCHEMA))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_document_breaks_anything(site: Site, described: BaseSchema, mode: GenerationMode) -> None:
    door = Http(site.url, site.pid, site.stranger.token)
    sent: list[str] = []

    def judge(document: str) -> None:
        sent.append(document)
        answer = door.send(Attack("schemathesis", document, "{}"))
        assert oracle.faults(answer, secrets=site.secrets("stranger")) == [], (document, answer)
        assert door.is_alive()

    for found in described.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        # It would end the session that asks.
        if operation.label == "Mutation.logout":
            continue
        bounded = settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        bounded(given(operation.as_strategy(generation_mode=mode))(lambda case: judge(case.body)))()
    print(f"{len(sent)} documents by schemathesis, {mode.value}; {len(set(sent))} of them different")
    assert len(set(sent)) > 100
    door.close()
