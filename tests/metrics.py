"""What a server says at /metrics, as Prometheus reads it."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

Numbers = dict[str, float]


def numbers(url: str) -> Numbers:
    """By name and labels, such as `taskgraph_documents_total{result=hit}`."""
    response = httpx.get(f"{url}/metrics")
    assert response.status_code == 200
    return {
        sample.name
        + (f"{{{','.join(f'{name}={value}' for name, value in sample.labels.items())}}}" if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def moved(before: Numbers, after: Numbers) -> Numbers:
    """What has changed of taskgraph's own, and by how much; durations only in their number."""
    return {
        name: after[name] - before.get(name, 0)
        for name in sorted(after)
        if name.startswith("taskgraph_") and "_bucket" not in name and "_sum" not in name and after[name] != before.get(name, 0)
    }


def deoptimised(numbers: Numbers) -> Numbers:
    """By reason."""
    start = "taskgraph_deoptimised_total{reason="
    return {name.removeprefix(start).rstrip("}"): value for name, value in numbers.items() if name.startswith(start)}
