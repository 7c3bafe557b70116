"""Idle servers leave the processor alone."""
import time

from cluster import Cluster, post


def test_idle_cpu(router):
    with Cluster(1, 1, router=router) as cluster:
        post(cluster.url + "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}})
        time.sleep(2)
        processes = [*cluster.servers, *([cluster.router] if router == "baton" else [])]
        before = [p.cpu_seconds() for p in processes]
        time.sleep(10)
        used = {p.name: (p.cpu_seconds() - b) / 10 for p, b in zip(processes, before, strict=True)}
        assert all(share < 0.01 for share in used.values()), used
