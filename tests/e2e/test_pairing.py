"""Prefill and decode are paired, connected and warm before the first request needs them; who is dead, who is another and
who does not fit is told at once."""
import concurrent.futures
import itertools
import json
import time

import pytest

from cluster import GOLDEN, Cluster, Server, http, post

TINY = GOLDEN / "tiny" / "llama"
TINY_EXTRA = ["--skip-tokenizer-init"]
ROOMS = itertools.count(1)


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


def ask_both(prefill, decode):
    """[(status, body, seconds)] of both halves of one request, without a router."""
    body = {"input_ids": [1, 2, 3, 4], "sampling_params": {"max_new_tokens": 3, "ignore_eos": True, "temperature": 0},
            "bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.bootstrap, "bootstrap_room": next(ROOMS)}

    def ask(server):
        begin = time.time()
        status, text = http(server.url + "/generate", body, 60)
        return status, json.loads(text), time.time() - begin
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(ask, (prefill, decode)))


@pytest.mark.parametrize("provider", ["tcp", "shm"])
def test_two_decodes_of_one_name(provider):
    """Pods of one image have one host name and one port: both serve, neither puts the other out."""
    with Cluster(1, 1, model=TINY, provider=provider, extra=TINY_EXTRA, router_extra=["--disable-health-check"]) as cluster:
        prefill, decode = cluster.prefills[0], cluster.decodes[0]
        twin = Server("twin", cluster.log_dir, TINY, "decode", provider, TINY_EXTRA, host="127.0.0.2", port=decode.port)
        try:
            twin.wait()
            end = time.time() + 4  # several heartbeats
            while time.time() < end:
                for server in (decode, twin):
                    answers = ask_both(prefill, server)
                    assert [status for status, _, _ in answers] == [200, 200], (server.name, answers, prefill.tail())
                assert prefill.metrics()["baton_transfer_peers"] == 2
            assert prefill.log.read_text().count("Paired with decode") == 2, prefill.tail()
        finally:
            twin.stop()


@pytest.mark.parametrize("provider", ["tcp", "shm"])
def test_a_killed_decode_is_forgotten_at_once(provider):
    """... not after the 10 s without heartbeats, and the next one of its name serves."""
    with Cluster(1, 1, model=TINY, provider=provider, extra=TINY_EXTRA) as cluster:
        prefill, decode = cluster.prefills[0], cluster.decodes[0]
        wait_for_peers(prefill, 1)
        decode.kill()
        end = time.time() + 5
        while prefill.metrics()["baton_transfer_peers"] > 0:
            assert time.time() < end, prefill.tail()
            time.sleep(0.02)
        decode.start()
        decode.wait()
        assert [status for status, _, _ in ask_both(prefill, decode)] == [200, 200]
        wait_for_peers(prefill, 1)


def test_halves_that_do_not_fit_are_both_told():
    """The prefill half, too: the real router waits for it."""
    with Cluster(1, 1, model=TINY, extra=TINY_EXTRA, decode_extra=["--kv-cache-dtype", "float32"]) as cluster:
        for status, body, seconds in ask_both(cluster.prefills[0], cluster.decodes[0]):
            assert status == 503 and seconds < 15, (status, body, seconds)
            assert "--kv-cache-dtype" in body["error"]["message"] and body["error"]["guilty"] == "none", body


def test_the_router_answers_when_halves_do_not_fit(router):
    with Cluster(1, 1, model=TINY, router=router, extra=TINY_EXTRA, decode_extra=["--kv-cache-dtype", "float32"],
                 router_extra=["--retry-max-retries", 1]) as cluster:
        begin = time.time()
        status, text = http(cluster.url + "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}}, 60)
        assert status >= 500 and time.time() - begin < 15, (status, text)


def test_a_prefill_added_as_decode_takes_no_requests():
    with Cluster(1, 1) as cluster:
        wrong = Server("wrong", cluster.log_dir, mode="prefill")
        try:
            wrong.wait()
            status, text = http(cluster.url + "/workers", {"url": wrong.url, "worker_type": "decode"})
            assert status == 202, text
            location = cluster.url + json.loads(text)["location"]
            end = time.time() + 10
            while "reason" not in (row := json.loads(http(location)[1])):
                assert time.time() < end, row
                time.sleep(0.05)
            for word in (wrong.url, "decode", "prefill", "--disaggregation-mode"):
                assert word in row["reason"], row
            assert not row["is_healthy"] and row["job_status"]["status"] == "failed", row
            body = {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}}
            for _ in range(10):
                assert post(cluster.url + "/generate", body)["meta_info"]["completion_tokens"] == 2
            assert row["reason"] in cluster.router.log.read_text()
            # Restarted as what it was added as, it is used.
            wrong.kill()
            wrong.arguments[wrong.arguments.index("--disaggregation-mode") + 1] = "decode"
            wrong.start()
            wrong.wait()
            end = time.time() + 10
            while not (row := json.loads(http(location)[1]))["is_healthy"]:
                assert time.time() < end, row
                time.sleep(0.05)
            assert "reason" not in row and "job_status" not in row, row
            for _ in range(4):
                assert post(cluster.url + "/generate", body)["meta_info"]["completion_tokens"] == 2
        finally:
            wrong.stop()
