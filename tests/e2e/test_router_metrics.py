"""The router's metrics as a scraper reads them: names, kinds and labels as sglang-router's dashboards expect them."""
import prometheus_client.parser
from cluster import Cluster, http, post

# Those of sglang-router 0.3.2 as its own /metrics shows them, with the labels that a PD router there has. We may have more labels.
TABLE = {
    "smg_http_requests": ("counter", {"method", "path"}),
    "smg_http_request_duration_seconds": ("histogram", {"method", "path"}),
    "smg_http_responses": ("counter", {"status_code", "error_code"}),
    "smg_http_connections_active": ("gauge", set()),
    "smg_http_inflight_request_age_count": ("gauge", {"gt", "le"}),
    "smg_http_rate_limit": ("counter", {"result"}),
    "smg_router_requests": ("counter", {"router_type", "backend_type", "connection_mode", "model", "endpoint", "streaming"}),
    "smg_router_request_duration_seconds": ("histogram", {"router_type", "backend_type", "connection_mode", "model", "endpoint"}),
    "smg_router_request_errors": ("counter", {"router_type", "backend_type", "connection_mode", "model", "endpoint", "error_type"}),
    "smg_router_upstream_responses": ("counter", {"router_type", "status_code", "error_code"}),
    "smg_worker_pool_size": ("gauge", {"worker_type", "connection_mode", "model"}),
    "smg_worker_requests_active": ("gauge", {"worker"}),
    "smg_worker_health": ("gauge", {"worker"}),
    "smg_worker_health_checks": ("counter", {"result"}),
    "smg_worker_selection": ("counter", {"worker_type", "connection_mode", "model", "policy"}),
    "smg_worker_errors": ("counter", {"worker_type", "connection_mode", "error_type"}),
    "smg_worker_cb_state": ("gauge", {"worker"}),
    "smg_worker_cb_outcomes": ("counter", {"worker", "outcome"}),
    "smg_worker_cb_consecutive_failures": ("gauge", {"worker"}),
    "smg_worker_cb_consecutive_successes": ("gauge", {"worker"}),
    "smg_worker_retries": ("counter", {"worker_type", "endpoint"}),
    "smg_worker_retries_exhausted": ("counter", {"worker_type", "endpoint"}),
    "smg_worker_retry_backoff_seconds": ("histogram", {"attempt"}),
    "baton_router_time_to_first_byte_seconds": ("histogram", {"model", "endpoint"}),
    "baton_router_inter_event_seconds": ("histogram", {"model", "endpoint"}),
    "baton_router_migrations": ("counter", set()),
}


# Of these sglang-router shows nothing in the seconds of this test, or (the first) a summary.
NOT_THERE = {"smg_worker_retry_backoff_seconds", "smg_http_inflight_request_age_count", "smg_router_request_errors",
             "smg_router_upstream_responses", "smg_worker_health_checks"}


def scrape(url):
    return {f.name: f for f in prometheus_client.parser.text_string_to_metric_families(http(url + "/metrics")[1])}


def test_scrape_has_every_metric_of_the_table(router):
    ours = router == "baton"
    table = TABLE if ours else {n: v for n, v in TABLE.items() if n.startswith("smg_") and n not in NOT_THERE}
    flags = ["--retry-max-retries", 2, "--max-concurrent-requests", 8, *(["--worker-wait-secs", 0] if ours else [])]
    with Cluster(1, 1, router=router, router_extra=flags, prefill_extra=["--disaggregation-bootstrap-timeout", 2]) as pair:
        post(pair.url + "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3})
        http(pair.url + "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True})
        pair.decodes[0].kill()
        assert http(pair.url + "/generate", {"text": "x", "sampling_params": {"max_new_tokens": 2}})[0] >= 500
        families = scrape(pair.url if ours else pair.router.metrics_url)
        missing = table.keys() - families.keys()
        assert not missing
        for name, (kind, labels) in table.items():
            family = families[name]
            assert family.type == kind, name
            assert family.samples, name
            for sample in family.samples:
                assert labels <= set(sample.labels), f"{name}: {sample.labels}"
        if ours:
            ages = families["smg_http_inflight_request_age_count"].samples
            assert [(s.labels["gt"], s.labels["le"]) for s in ages][:2] == [("0", "30"), ("30", "60")] and ages[-1].labels["le"] == "+Inf"
        asked = {(s.labels["model"], s.labels["endpoint"], s.labels["streaming"]): s.value for s in families["smg_router_requests"].samples if s.name.endswith("_total")}
        assert asked[("m", "chat", "false")] == 1 and asked[("m", "chat", "true")] == 1
