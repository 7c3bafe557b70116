"""How much of the time to the first token is transfer that nothing hides: a prefill and a decode server with
SmolLM2, prompts of 1000 random tokens, exposed time from decode's metrics, TTFT as a client sees it.

    python benchmarks/exposed_transfer.py [--provider shm] [--requests 20] [--prompt-tokens 1000]
"""
import argparse
import json
import pathlib
import random
import statistics
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
from cluster import Cluster  # noqa: E402


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", default="shm")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--prompt-tokens", type=int, default=1000)
    args = parser.parse_args()
    rng = random.Random(1)
    rows = []
    with Cluster(1, 1, provider=args.provider) as cluster:
        decode = cluster.decodes[0]
        for i in range(args.requests + 2):  # two to warm up
            before = decode.metrics()
            ttft = first_token_ms(cluster.url, [rng.randrange(100, 40000) for _ in range(args.prompt_tokens)])
            time.sleep(0.05)
            after = decode.metrics()
            delta = {n: after[n] - before.get(n, 0) for n in after if n.endswith(("_sum", "_total"))}
            if i >= 2:
                rows.append((ttft, delta["baton_kv_transfer_exposed_ms_sum"], delta["sglang:kv_transfer_latency_ms_sum"],
                             delta["baton_kv_received_bytes_total"]))
    ttft, exposed, transfer, size = (statistics.median(column) for column in zip(*rows))
    share = statistics.median(100 * r[1] / r[0] for r in rows)
    print(json.dumps({"provider": args.provider, "prompt_tokens": args.prompt_tokens, "requests": args.requests,
                      "ttft_ms": round(ttft, 2), "exposed_ms": round(exposed, 3), "exposed_percent_of_ttft": round(share, 3),
                      "first_to_last_write_ms": round(transfer, 2), "kv_mib": round(size / 2**20, 2)}))


main()
