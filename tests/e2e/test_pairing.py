"""Prefill and decode are paired, connected and warm before the first request needs them."""
import time

from cluster import Cluster, http, post


def wait_for_peers(server, count, timeout=20):
    end = time.time() + timeout
    while (peers := server.metrics().get("baton_transfer_peers", 0)) < count:
        assert time.time() < end, f"{server.name} has {peers} of {count} peers\n{server.tail()}"
        time.sleep(0.05)


def test_router_introduces_every_pair():
    with Cluster(2, 2) as cluster:
        for server in cluster.servers:
            wait_for_peers(server, 2)
        # A restarted server is introduced again.
        cluster.prefills[0].kill()
        cluster.prefills[0].start()
        cluster.prefills[0].wait()
        wait_for_peers(cluster.prefills[0], 2)
        answer = post(cluster.url + "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}})
        assert answer["meta_info"]["completion_tokens"] == 2


def test_pairing_by_hand_says_what_is_wrong():
    with Cluster(1, 1) as cluster:
        decode, prefill = cluster.decodes[0], cluster.prefills[0]
        pair = lambda url, body: http(url + "/baton/v1/pair", body)
        assert pair(decode.url, {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.bootstrap})[0] == 200
        for url, body, status, words in [
            (decode.url, {}, 400, "bootstrap_host"),
            (decode.url, {"bootstrap_host": "127.0.0.1", "bootstrap_port": 0}, 400, "bootstrap_port"),
            (decode.url, {"bootstrap_host": "127.0.0.1", "bootstrap_port": 1}, 503, "127.0.0.1:1"),
            (prefill.url, {"bootstrap_host": "127.0.0.1"}, 400, "no decode server"),
        ]:
            got, text = pair(url, body)
            assert got == status and words in text, (body, got, text)
