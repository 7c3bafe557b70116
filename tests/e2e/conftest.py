import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cluster import BATON, SMOLLM2, Cluster  # noqa: E402


def pytest_configure(config):
    if not BATON.exists() or not SMOLLM2.exists():
        pytest.exit(f"{BATON} or {SMOLLM2} is missing: run `make build models` first", 2)


@pytest.fixture(scope="session")
def mono():
    with Cluster(0, 0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pair():
    """Our router, one prefill, one decode, over tcp."""
    with Cluster(1, 1) as cluster:
        yield cluster
        for server in cluster.servers:
            server.assert_no_leaks()


@pytest.fixture(scope="session")
def sglang_pair():
    """The real sglang-router in front of a pair of our servers, which no router of ours has introduced to each other."""
    with Cluster(1, 1, router="sglang") as cluster:
        yield cluster
        for server in cluster.servers:
            server.assert_no_leaks()


@pytest.fixture(params=["baton", "sglang"])
def router(request):
    """Which router a test's cluster gets: every test that goes through one goes through both."""
    return request.param


@pytest.fixture
def routed(router, request):
    """The shared pair behind each router in turn."""
    return request.getfixturevalue({"baton": "pair", "sglang": "sglang_pair"}[router])
