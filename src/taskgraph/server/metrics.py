"""What Prometheus may know of this process: numbers that are counted where things happen, and put into its words only when it asks.

Names, addresses and texts of callers are in none of them.
"""

import os
from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from taskgraph.server.http import GraphQLOverHttp
from taskgraph.server.persisted import PLACES, PersistedDocuments
from taskgraph.server.plans import Plans
from taskgraph.server.rate_limit import WINDOWS, RateLimits
from taskgraph.server.response_cache import ResponseCache
from taskgraph.server.websocket import GraphQLOverWebSocket
from taskgraph.storage.audit_log import AuditLog


class Metrics(Collector):
    """Answers /metrics."""

    def __init__(
        self,
        persisted: PersistedDocuments,
        plans: Plans | None,
        responses: ResponseCache,
        rates: RateLimits,
        audit: AuditLog,
        over_http: GraphQLOverHttp,
        over_websocket: GraphQLOverWebSocket,
        *,
        has_live_events: Callable[[], bool],
    ) -> None:
        self._persisted = persisted
        self._plans = plans
        self._responses = responses
        self._rates = rates
        self._audit = audit
        self._over_http = over_http
        self._over_websocket = over_websocket
        self._has_live_events = has_live_events
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def routes(self) -> list[Route]:
        """The endpoint."""
        return [Route("/metrics", self.metrics)]

    async def metrics(self, _request: Request) -> Response:
        """The text format, which every version of Prometheus reads."""
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    def collect(self) -> Iterator[Metric]:
        """All but what the operating system knows of the process."""
        yield InfoMetricFamily("taskgraph_process", "Who answers.", {"version": version("taskgraph"), "pid": str(os.getpid())})
        yield from self._of_requests()
        yield from self._of_limits()
        yield from self._of_audit_log()
        yield from self._of_documents()
        yield from self._of_plans()
        yield from self._of_live_updates()

    def _of_requests(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily(
            "taskgraph_http_request_duration_seconds", "GraphQL over HTTP, until the answer is made.", labels=["status"]
        )
        for status, measured in self._over_http.durations.items():
            durations.add_metric([str(int(status))], measured.buckets(), measured.total_seconds)
        yield durations
        kept = CounterMetricFamily("taskgraph_response_cache", "Queries that might be answered from the cache.", labels=["result"])
        kept.add_metric(["hit"], self._responses.hits)
        kept.add_metric(["miss"], self._responses.misses)
        yield kept

    def _of_limits(self) -> Iterator[Metric]:
        rates = self._rates
        refused = CounterMetricFamily("taskgraph_rate_limited", "Operations refused by a rate limit.", labels=["window"])
        for window in WINDOWS:
            refused.add_metric([window], rates.refused[window])
        yield refused
        yield CounterMetricFamily(
            "taskgraph_rate_limit_local", "Decisions made without Redis, by this process's share.", rates.local
        )
        yield GaugeMetricFamily(
            "taskgraph_rate_limit_is_local", "Whether the last decision was such a one: 1 or 0.", rates.is_local
        )
        yield GaugeMetricFamily("taskgraph_rate_limit_processes", "Processes that share the limits then.", rates.processes)

    def _of_audit_log(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "taskgraph_audit_entries_dropped", "Entries lost because the database was away for too long.", self._audit.dropped
        )

    def _of_documents(self) -> Iterator[Metric]:
        documents = CounterMetricFamily("taskgraph_documents", "Documents that came, by what was done.", labels=["result"])
        documents.add_metric(["hit"], self._persisted.documents.hits)
        documents.add_metric(["miss"], self._persisted.documents.misses)
        documents.add_metric(["failed"], self._persisted.documents.failures)
        yield documents
        named = CounterMetricFamily(
            "taskgraph_named_documents", "Documents that were only named, by where they were.", labels=["found"]
        )
        for place in PLACES:
            named.add_metric([place], self._persisted.found[place])
        yield named
        yield CounterMetricFamily(
            "taskgraph_untrusted_documents", "Documents not on the operator's list.", self._persisted.untrusted
        )
        yield GaugeMetricFamily("taskgraph_documents_kept", "Documents that are kept.", self._persisted.documents.kept)
        yield GaugeMetricFamily("taskgraph_documents_kept_bytes", "What they take, about.", self._persisted.documents.kept_bytes)

    def _of_plans(self) -> Iterator[Metric]:
        left = CounterMetricFamily(
            "taskgraph_deoptimised", "Operations that graphql-core had to answer instead of a plan.", labels=["reason"]
        )
        for reason, count in self._plans.deoptimised.items() if self._plans else ():
            left.add_metric([reason], count)
        yield left
        answered = self._plans.answered if self._plans else 0
        yield CounterMetricFamily("taskgraph_compiled_answers", "Operations and messages that a plan answered.", answered)

    def _of_live_updates(self) -> Iterator[Metric]:
        over_websocket = self._over_websocket
        yield GaugeMetricFamily("taskgraph_websocket_connections", "WebSockets that are open.", over_websocket.connections)
        yield GaugeMetricFamily("taskgraph_subscriptions", "Subscriptions that are running.", over_websocket.subscriptions)
        yield GaugeMetricFamily("taskgraph_event_stream_up", "Whether changes flow from MongoDB: 1 or 0.", self._has_live_events())
