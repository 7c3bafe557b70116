"""Prefill and decode whose KV pages differ in size give the tokens of one server, prefix hits on decode included."""
import math
import random

import pytest

from cluster import Cluster, http, post

BYTES_PER_TOKEN = 30 * 2 * 3 * 64 * 2  # SmolLM2: layers, keys and values, heads, dimension, f16


def generate(url, ids, temperature, seed):
    return post(url + "/generate", {"input_ids": ids, "sampling_params": {
        "temperature": temperature, "max_new_tokens": 10, "ignore_eos": True, "sampling_seed": seed}}, 300)["output_ids"]


def prompts():
    """Lengths around every page border, and families that share a prefix, so that decode's cache is hit."""
    rng = random.Random(7)
    draw = lambda n: [rng.randint(100, 40000) for _ in range(n)]  # noqa: E731
    out = [draw(n) for n in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 600)]
    for length in (70, 130, 250):
        base = draw(length)
        out += [base, base + draw(5), base[:-3] + draw(40), base]
    return out


@pytest.fixture(scope="module")
def expected(mono):
    inputs = prompts()
    return inputs, [[generate(mono.url, ids, t, i) for i, ids in enumerate(inputs)] for t in (0, 1)]


def pages(size):
    return ["--page-size", size]


@pytest.mark.parametrize("prefill,decode,provider", [
    (16, 64, "tcp"), (64, 16, "tcp"), (16, 32, "shm"), (32, 16, "shm"), (32, 64, "shm"), (64, 32, "shm"), (12, 8, "tcp"),
    (64, 16, "tcp-read")])
def test_identical_over_page_sizes(expected, prefill, decode, provider, router):
    inputs, want = expected
    # Chunks that end in the middle of decode's pages.
    with Cluster(1, 1, provider=provider, router=router, prefill_extra=[*pages(prefill), "--chunked-prefill-size", 3 * prefill],
                 decode_extra=pages(decode)) as cluster:
        for temperature in (0, 1):
            got = [generate(cluster.url, ids, temperature, i) for i, ids in enumerate(inputs)]
            wrong = [i for i, (a, b) in enumerate(zip(got, want[temperature], strict=True)) if a != b]
            assert not wrong, f"pages {prefill} and {decode}, temperature {temperature}: prompts {wrong} differ"
        for server in cluster.servers:
            server.assert_no_leaks()


def test_decode_is_sent_only_what_it_lacks(router):
    """A prompt that decode has served is sent again from decode's last whole page on."""
    prefill, decode = 64, 16
    ids = random.Random(11).sample(range(100, 40000), 150)
    with Cluster(1, 1, router=router, prefill_extra=pages(prefill), decode_extra=pages(decode)) as cluster:
        received = []
        for _ in range(2):
            before = cluster.decodes[0].metrics().get("baton_kv_received_bytes_total", 0)
            generate(cluster.url, ids, 0, 1)
            received.append(cluster.decodes[0].metrics()["baton_kv_received_bytes_total"] - before)
    unit = math.gcd(prefill, decode)
    end = -(-len(ids) // unit) * unit
    cached = (len(ids) - 1) // decode * decode
    assert received == [end * BYTES_PER_TOKEN, (end - cached) * BYTES_PER_TOKEN]


def test_other_numbers_in_the_cache_do_not_pair(router):
    # sglang-router answers once both workers have, so as late as prefill stops waiting for its decode.
    with Cluster(1, 1, router=router, decode_extra=["--kv-cache-dtype", "float32"],
                 prefill_extra=["--disaggregation-bootstrap-timeout", 2]) as cluster:
        status, text = http(cluster.url + "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}})
        assert status >= 400
        assert "--kv-cache-dtype" in text, text
