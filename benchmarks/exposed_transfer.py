"""How much of the time to the first token is transfer that nothing hides: a prefill and a decode server with
SmolLM2 per provider, prompts of 1000 random tokens, the same prompt to each provider in turn.

Exposed time runs until decode may start from the moment that the keys and values of prefill's last layer are computed, on the
clock that both share: the rest of that layer, the head and the sampling are in it, so it is an upper bound. Hand-over time
runs from prefill's first token, after-seal time from the arrival of the seal. TTFT is a client's. Medians.

    python benchmarks/exposed_transfer.py [--providers shm,tcp] [--requests 20] [--prompt-tokens 1000]
"""
import argparse
import contextlib
import json
import pathlib
import random
import statistics
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
from cluster import Cluster  # noqa: E402

SUMS = {"handover_ms": "baton_kv_transfer_handover_ms_sum", "exposed_ms": "baton_kv_transfer_exposed_ms_sum", "after_seal_ms": "baton_kv_transfer_after_seal_ms_sum",
        "first_to_last_write_ms": "sglang:kv_transfer_latency_ms_sum", "bytes": "baton_kv_received_bytes_total"}


def first_token_ms(url, tokens):
    body = {"model": "m", "prompt": tokens, "max_tokens": 4, "stream": True, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                ms = (time.perf_counter() - start) * 1e3
                answer.read()
                return ms
    raise RuntimeError("no token came")


def measure(cluster, tokens):
    decode = cluster.decodes[0]
    before = decode.metrics()
    row = {"ttft_ms": first_token_ms(cluster.url, tokens)}
    time.sleep(0.05)
    after = decode.metrics()
    return row | {name: after[metric] - before.get(metric, 0) for name, metric in SUMS.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--providers", default="shm,tcp")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--prompt-tokens", type=int, default=1000)
    args = parser.parse_args()
    rng = random.Random(1)
    providers = args.providers.split(",")
    rows = {provider: [] for provider in providers}
    with contextlib.ExitStack() as stack:
        clusters = {provider: stack.enter_context(Cluster(1, 1, provider=provider)) for provider in providers}
        for i in range(args.requests + 2):  # two to warm up
            tokens = [rng.randrange(100, 40000) for _ in range(args.prompt_tokens)]
            for provider in providers if i % 2 else reversed(providers):
                row = measure(clusters[provider], tokens)
                if i >= 2:
                    rows[provider].append(row)
    for provider in providers:
        column = {name: [row[name] for row in rows[provider]] for name in rows[provider][0]}
        percent = sorted(100 * e / t for e, t in zip(column["exposed_ms"], column["ttft_ms"], strict=True))
        median = {name: statistics.median(values) for name, values in column.items()}
        print(json.dumps({"provider": provider, "prompt_tokens": args.prompt_tokens, "requests": args.requests,
                          "ttft_ms": round(median["ttft_ms"], 2), "exposed_ms": round(median["exposed_ms"], 3),
                          "exposed_ms_worst": round(max(column["exposed_ms"]), 3),
                          "exposed_percent_of_ttft": round(statistics.median(percent), 3),
                          "exposed_percent_worst": round(percent[-1], 3),
                          "handover_ms": round(median["handover_ms"], 3),
                          "handover_percent_of_ttft": round(100 * statistics.median(
                              h / t for h, t in zip(column["handover_ms"], column["ttft_ms"], strict=True)), 3),
                          "after_seal_ms": round(median["after_seal_ms"], 3),
                          "first_to_last_write_ms": round(median["first_to_last_write_ms"], 2),
                          "kv_mib": round(median["bytes"] / 2**20, 2)}))


main()
