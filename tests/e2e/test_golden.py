"""The model is right, alone and disaggregated: against transformers in float32."""
import json

import pytest

from cluster import GOLDEN, SMOLLM2, Cluster
from golden import assert_golden

TINY = ["llama", "llama3-rope-tied"]
SMOLLM2_GOLDEN = json.loads((GOLDEN / "smollm2-public.json").read_text())


def tiny(name):
    return json.loads((GOLDEN / "tiny" / name / "golden.json").read_text())


def check_smollm2(url):
    assert_golden(url, SMOLLM2_GOLDEN, mean_tol=0.02, max_tol=0.1, margin=0.05)


def test_smollm2_monolithic(mono):
    check_smollm2(mono.url)


def test_smollm2_pair(routed):
    check_smollm2(routed.url)


def test_smollm2_two_and_two(router):
    with Cluster(2, 2, router=router) as cluster:
        for _ in range(4):  # round robin reaches every server
            check_smollm2(cluster.url)
        for server in cluster.servers:
            assert server.metrics()["sglang:num_requests_total"] > 0
            server.assert_no_leaks()


def check_tiny(name, prefill, decode, **more):
    with Cluster(prefill, decode, model=GOLDEN / "tiny" / name, extra=["--skip-tokenizer-init"], **more) as cluster:
        for _ in range(max(1, prefill)):
            assert_golden(cluster.url, tiny(name), mean_tol=0.01, max_tol=0.1, margin=0.05)


@pytest.mark.parametrize("name", TINY)
def test_tiny_monolithic(name):
    check_tiny(name, 0, 0)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("each", [1, 2], ids=["1p1d", "2p2d"])
def test_tiny(name, each, router):
    check_tiny(name, each, each, router=router)
