"""Disaggregated output is the monolithic output, token for token, greedy and sampled, alone and in company."""
import concurrent.futures
import os
import random

import pytest

from cluster import SMOLLM2, Cluster, post

PROMPTS = int(os.environ.get("BATON_IDENTITY_PROMPTS", "12"))


def prompts(count):
    rng = random.Random(20261122)
    out = []
    for i in range(count):
        length = rng.choice([1, 2, 15, 16, 17, 31, 32, 33, rng.randint(1, 200), rng.randint(200, 1500)])
        out.append([rng.randint(0, 49151) for _ in range(length)])
    return out


def outputs(url, temperature, concurrency, inputs):
    def one(item):
        index, ids = item
        return post(url + "/generate", {"input_ids": ids, "sampling_params": {
            "temperature": temperature, "max_new_tokens": 12, "ignore_eos": True, "sampling_seed": 1000 + index}}, 300)["output_ids"]
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        return list(pool.map(one, enumerate(inputs)))


@pytest.fixture(scope="module")
def expected(mono):
    inputs = prompts(PROMPTS)
    return inputs, {t: outputs(mono.url, t, 1, inputs) for t in (0, 1)}


NIXL = pytest.param("nixl", marks=pytest.mark.skipif(not os.environ.get("BATON_NIXL_PATH"),
                                                     reason="BATON_NIXL_PATH does not say where NIXL is"))


@pytest.mark.parametrize("provider", ["tcp", "shm", NIXL])
def test_identical(expected, provider, router):
    inputs, want = expected
    with Cluster(1, 1, provider=provider, router=router) as cluster:
        for temperature in (0, 1):
            for concurrency in (1, 16):
                got = outputs(cluster.url, temperature, concurrency, inputs)
                wrong = [i for i, (a, b) in enumerate(zip(got, want[temperature], strict=True)) if a != b]
                assert not wrong, f"{provider} temperature {temperature} concurrency {concurrency}: prompts {wrong} differ"
        for server in cluster.servers:
            server.assert_no_leaks()


def test_batched_is_alone(expected, mono):
    inputs, want = expected
    for temperature in (0, 1):
        assert outputs(mono.url, temperature, 16, inputs) == want[temperature]
