"""One minute of tests/chaos/chaos.py: workers die, freeze and restart at random, and no client notices."""
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
from chaos import chaos  # noqa: E402


@pytest.mark.timeout(300)
def test_no_request_is_lost():
    report = chaos(seconds=60, clients=16, seed=20261122, tokens=600)
    assert not report["failed"] and not report["hung"] and not report["leaks"], json.dumps(report, indent=1)
    assert report["requests"] > 50 and report["actions"] > 10
