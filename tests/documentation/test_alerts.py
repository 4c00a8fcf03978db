"""Each alert of deploy/prometheus/alerts.yml reads metrics that exist, with the functions that suit their type."""

from __future__ import annotations

import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.documentation.blocks import the_block
from tests.documentation.documented import Documented
from tests.helpers.installations import REPO

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]

PAGE = "docs/metrics-and-alerts.md"
OF_COUNTERS = {"rate", "irate", "increase"}
OF_GAUGES = {"delta", "deriv", "idelta", "predict_linear"}


def alerts() -> list[dict[str, str]]:
    [group] = yaml.safe_load((REPO / "deploy/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def types(site: Documented) -> dict[str, str]:
    """Return the type of each metric and of each of its samples, as /metrics has them."""
    site.status("/healthz")
    status, text = site.get("/metrics", Authorization=f"Bearer {site.settings['CATALOGMATCH_METRICS_TOKEN']}")
    assert status == 200
    found: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        names = {family.name, *(sample.name for sample in family.samples)}
        # The sum, count and buckets of a histogram only grow.
        kind = "counter" if family.type in ("counter", "histogram") else family.type
        found |= dict.fromkeys(names, kind)
    return found


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alert_reads_metrics_that_exist_with_fitting_functions(rule: dict[str, str], types: dict[str, str]) -> None:
    reads = re.findall(r"(?:\b(\w+)\()?\s*(catalogmatch_\w+)(?:\{[^}]*\})?(\[)?", rule["expr"])
    assert reads
    for function, metric, over_time in reads:
        assert metric in types
        if types[metric] == "counter":
            assert (over_time, function in OF_COUNTERS) == ("[", True), f"{metric} is a counter"
        else:
            assert function not in OF_COUNTERS, f"{metric} is a {types[metric]}"
            assert bool(over_time) == (function in OF_GAUGES)


def test_documented_metrics_are_those_of_the_program(types: dict[str, str]) -> None:
    text = (REPO / PAGE).read_text("utf-8")
    documented = set(re.findall(r"^\| `(catalogmatch_\w+)", text, re.MULTILINE))
    assert documented <= set(types)
    without_suffix = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in types}
    named = {re.sub(r"_total$", "", name) for name in documented}
    assert {name for name in without_suffix if name.startswith("catalogmatch_")} == named


def test_alerts_and_their_explanations_are_the_same() -> None:
    text = (REPO / PAGE).read_text("utf-8").partition("## Alerts")[2]
    names = [rule["alert"] for rule in alerts()]
    assert re.findall(r"^\| ([A-Z]\w+) \|", text, re.MULTILINE) == names
    assert re.findall(r"^- \*\*(\w+)\*\*:", text, re.MULTILINE) == names


def test_prometheus_is_told_the_token_and_the_address(site: Documented) -> None:
    [job] = yaml.safe_load(the_block(PAGE, "# prometheus.yml"))["scrape_configs"]
    assert job["authorization"] == {"credentials": "<the value of CATALOGMATCH_METRICS_TOKEN>"}
    [[target]] = [config["targets"] for config in job["static_configs"]]
    host, port = site.filled(target).split(":")
    assert (host, int(port)) == ("127.0.0.1", site.port)
