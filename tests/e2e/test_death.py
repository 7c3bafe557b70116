"""kill -9 of either role in the middle of many streams: an error or a whole answer within seconds, nothing leaks,
and the survivor serves again when the dead one is back."""
import concurrent.futures
import json
import time
import urllib.request

import pytest

from cluster import Cluster, post

STREAMS = 32


def stream_one(url, seed):
    """("done" | "error", seconds after `killed_at` at which it ended)."""
    body = {"prompt": [100 + seed] * 40, "max_tokens": 150, "stream": True, "model": "m", "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    outcome = "error"
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data: [DONE]"):
                    outcome = "done"
                elif line.startswith(b"data: ") and b'"error"' in line[:60]:
                    outcome = "error"
                    break
    except OSError:
        outcome = "error"
    except Exception as broken:  # http.client.IncompleteRead and kin: a cut stream is an error, not a hang
        outcome = type(broken).__name__
    return outcome, time.time()


@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.timeout(180)
def test_kill(role, router):
    with Cluster(1, 1, router=router) as cluster:
        victim = cluster.prefills[0] if role == "prefill" else cluster.decodes[0]
        survivor = cluster.decodes[0] if role == "prefill" else cluster.prefills[0]
        post(cluster.url + "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}})
        with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
            running = [pool.submit(stream_one, cluster.url, i) for i in range(STREAMS)]
            time.sleep(1.5)
            victim.kill()
            killed_at = time.time()
            results = [r.result(60) for r in running]
        if role == "decode":
            late = [end - killed_at for outcome, end in results if end - killed_at > 5]
            assert not late, f"{len(late)} streams ended up to {max(late):.1f} s after the kill"
        else:
            # Streams that had their KV go on to their end; the others got an error at once.
            late = [end - killed_at for outcome, end in results if outcome != "done" and end - killed_at > 5]
            assert not late, f"{len(late)} failures came up to {max(late):.1f} s after the kill"
        survivor.assert_no_leaks()
        victim.start()
        victim.wait()
        deadline = time.time() + 10
        while True:
            try:
                out = post(cluster.url + "/generate", {"input_ids": [5, 6, 7], "sampling_params": {"max_new_tokens": 4, "ignore_eos": True}})
                assert len(out["output_ids"]) == 4
                break
            except AssertionError:
                if time.time() > deadline:
                    raise
                time.sleep(0.2)
        for server in cluster.servers:
            server.assert_no_leaks()
