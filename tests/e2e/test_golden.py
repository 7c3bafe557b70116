"""The model is right, alone and disaggregated: against transformers in float32."""
import json

import pytest

from cluster import GOLDEN, SMOLLM2, Cluster
from golden import assert_golden

SMOLLM2_GOLDEN = json.loads((GOLDEN / "smollm2-public.json").read_text())


def tiny(name):
    return json.loads((GOLDEN / "tiny" / name / "golden.json").read_text())


def check_smollm2(url):
    assert_golden(url, SMOLLM2_GOLDEN, mean_tol=0.02, max_tol=0.1, margin=0.05)


def test_smollm2_monolithic(mono):
    check_smollm2(mono.url)


def test_smollm2_pair(pair):
    check_smollm2(pair.url)


def test_smollm2_two_and_two():
    with Cluster(2, 2) as cluster:
        for _ in range(4):  # round robin reaches every server
            check_smollm2(cluster.url)
        for server in cluster.servers:
            assert server.metrics()["sglang:num_requests_total"] > 0
            server.assert_no_leaks()


@pytest.mark.parametrize("name", ["llama", "llama3-rope-tied"])
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 2)], ids=["mono", "1p1d", "2p2d"])
def test_tiny(name, shape):
    with Cluster(*shape, model=GOLDEN / "tiny" / name, extra=["--skip-tokenizer-init"]) as cluster:
        for _ in range(max(1, shape[0])):
            assert_golden(cluster.url, tiny(name), mean_tol=0.01, max_tol=0.1, margin=0.05)
