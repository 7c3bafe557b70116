"""The server's own routes, keys, aborts and metrics."""
import concurrent.futures
import json
import socket
import threading
import time

import pytest

from cluster import SMOLLM2, Cluster, Server, http, post

IDS = {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2, "ignore_eos": True}}


def get(server, path):
    status, text = http(server.url + path)
    assert status == 200, f"{path}: {status} {text[:200]}"
    return json.loads(text) if text.startswith(("{", "[")) else text


@pytest.fixture(scope="module")
def server(mono):
    return mono.mono


@pytest.mark.parametrize("path", ["/health", "/health_generate", "/ready", "/ping", "/readiness", "/liveness"])
def test_probes(server, path):
    assert http(server.url + path)[0] == 200


def test_info(server):
    for path in ("/get_model_info", "/model_info"):
        info = get(server, path)
        assert info["is_generation"] is True and info["model_type"] == "llama"
    for path in ("/get_server_info", "/server_info"):
        info = get(server, path)
        assert info["disaggregation_mode"] == "null" and info["served_model_name"] == "m" and info["tp_size"] == 1
        assert info["max_total_num_tokens"] > 1000 and info["internal_states"]
    card = get(server, "/v1/models")["data"][0]
    assert card["id"] == "m" and card["max_model_len"] == 8192
    assert get(server, "/v1/models/m")["id"] == "m"


def test_loads(server):
    load = get(server, "/get_load")[0]
    assert {"dp_rank", "num_reqs", "num_waiting_reqs", "num_tokens"} <= load.keys()
    loads = get(server, "/v1/loads")
    assert loads["dp_rank_count"] == 1 and loads["loads"][0]["max_total_num_tokens"] > 0


def test_roles_in_server_info(pair):
    assert get(pair.prefills[0], "/server_info")["disaggregation_mode"] == "prefill"
    info = get(pair.decodes[0], "/server_info")
    assert info["disaggregation_mode"] == "decode"
    assert info["fabric"]["provider"] == "tcp;ofi_rxm" and info["fabric"]["hardware_rdma"] is False
    assert info["fabric"]["self_test_gb_per_s"] > 0
    assert get(pair.decodes[0], "/v1/loads")["loads"][0]["disaggregation"]["mode"] == "decode"


def test_two_names_of_one_prefill():
    """Routers may call one server by two names at once: it is paired once, and nobody fails."""
    with Cluster(1, 1) as cluster:
        prefill, decode = cluster.prefills[0], cluster.decodes[0]

        def ask(room):
            body = {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2, "ignore_eos": True, "temperature": 0},
                    "bootstrap_host": ("localhost", "127.0.0.1")[room % 2], "bootstrap_port": prefill.bootstrap, "bootstrap_room": room}
            sending = threading.Thread(target=http, args=(prefill.url + "/generate", body))
            sending.start()
            ids = post(decode.url + "/generate", body)["output_ids"]
            sending.join()
            return ids

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(1000, 1032)))
        assert all(ids == answers[0] and len(ids) == 2 for ids in answers)
        assert decode.log.read_text().count("Paired with") == 1
        for server in cluster.servers:
            server.assert_no_leaks()


def test_log_lines_that_guides_grep_for(routed):
    post(routed.url + "/generate", IDS)
    prefill, decode = routed.prefills[0].log.read_text(), routed.decodes[0].log.read_text()
    for text, mode in ((prefill, "prefill"), (decode, "decode")):
        for line in (f"disaggregation_mode='{mode}'", f"disaggregation_mode={mode}", "disaggregation_transfer_backend=fabric",
                     "The server is fired up and ready to roll!", "Start of pd disaggregation warmup ...", "max_total_num_tokens=",
                     "KV Cache is allocated. #tokens:", "WITHOUT hardware RDMA"):
            assert line in text, f"{mode}: {line}"
    assert "End of prefill disaggregation mode warmup with status 200, resp: " in prefill
    assert "KV received room=" in decode and "GB/s=" in decode


def test_tokenize_and_back(server):
    out = post(server.url + "/tokenize", {"prompt": "Hello, world!"})
    assert out["tokens"] == [19556, 28, 905, 17] and out["count"] == 4
    assert post(server.url + "/v1/tokenize", {"prompt": ["Hello, world!", "Hi"]})["count"] == [4, 1]
    assert post(server.url + "/detokenize", {"tokens": out["tokens"]})["text"] == "Hello, world!"


def test_prefix_cache_and_flush(server):
    prompt = {"input_ids": list(range(5000, 5100)), "sampling_params": {"max_new_tokens": 1}}
    post(server.url + "/generate", prompt)
    assert post(server.url + "/generate", prompt)["meta_info"]["cached_tokens"] == 96
    assert http(server.url + "/flush_cache", {}, method="POST")[0] == 200
    assert post(server.url + "/generate", prompt)["meta_info"]["cached_tokens"] == 0


def test_abort(server):
    result = {}
    body = {"input_ids": [1, 2, 3], "rid": "slow", "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True}}
    thread = threading.Thread(target=lambda: result.update(answer=http(server.url + "/generate", body)))
    thread.start()
    time.sleep(0.5)
    assert http(server.url + "/flush_cache", {}, method="POST")[0] == 400  # something runs
    begin = time.time()
    assert http(server.url + "/abort_request", {"rid": "slo"}, method="POST")[0] == 200  # a prefix is another rid
    time.sleep(0.2)
    assert thread.is_alive()
    assert http(server.url + "/abort_request", {"rid": "slow"}, method="POST")[0] == 200
    thread.join(10)
    assert time.time() - begin < 5
    assert result["answer"][0] >= 400
    server.assert_no_leaks()


def test_stream_is_cumulative(server):
    body = {**IDS, "stream": True, "sampling_params": {"max_new_tokens": 5, "ignore_eos": True, "temperature": 0}}
    _, text = http(server.url + "/generate", body)
    events = [e.removeprefix("data: ") for e in text.split("\n\n") if e]
    assert events[-1] == "[DONE]"
    events = [json.loads(e) for e in events[:-1]]
    assert [len(e["output_ids"]) for e in events] == [1, 2, 3, 4, 5]
    assert all(b["text"].startswith(a["text"]) for a, b in zip(events, events[1:]))
    assert events[-1]["meta_info"]["finish_reason"] == {"type": "length", "length": 5}
    assert all(e["meta_info"]["finish_reason"] is None for e in events[:-1])


def test_stop_token_is_trimmed(server):
    body = {"input_ids": [504, 3575, 282, 4649, 314], "sampling_params": {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True}}
    free = post(server.url + "/generate", body)
    stop = free["output_ids"][2]
    body["sampling_params"]["stop_token_ids"] = [stop]
    out = post(server.url + "/generate", body)
    assert out["output_ids"] == free["output_ids"][:3]
    assert out["meta_info"]["finish_reason"] == {"type": "stop", "matched": stop}
    assert free["text"].startswith(out["text"]) and len(out["text"]) < len(free["text"])


def test_api_key(tmp_path):
    server = Server("keyed", tmp_path, extra=["--api-key", "secret", "--skip-server-warmup"])
    try:
        server.wait()
        assert http(server.url + "/generate", IDS)[0] == 401
        assert http(server.url + "/v1/models")[0] == 401
        assert http(server.url + "/health")[0] == 200 and http(server.url + "/metrics")[0] == 200
        assert http(server.url + "/generate", IDS, headers={"Authorization": "Bearer secret"})[0] == 200
    finally:
        server.stop()


def test_body_of_a_refused_request_is_not_read(tmp_path):
    server = Server("gated", tmp_path, extra=["--api-key", "secret", "--skip-server-warmup"])
    try:
        server.wait()
        key = "Authorization: Bearer secret\r\n"
        for path, head, status in (("/generate", "", 401), ("/nowhere", key, 404), ("/generate", key, 100)):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 40000000\r\nExpect: 100-continue\r\n\r\n".encode())
                assert client.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())
    finally:
        server.stop()


@pytest.mark.parametrize("call", ["POST /flush_cache", "GET /flush_cache", "POST /abort_request", "POST /baton/v1/pair"])
def test_pages_of_other_origins_change_nothing(server, call):
    method, path = call.split()
    body = b'{"abort_all": true}' if method == "POST" else None
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    for headers in ({"Origin": "http://page.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        status, text = http(server.url + path, body, method=method, headers={**headers, "Content-Type": "text/plain"})
        assert status == 403 and "other origins" in text
    assert http(server.url + path, body, method=method, headers=own)[0] == (400 if "pair" in path else 200)
    assert http(server.url + "/v1/models", headers={"Origin": "http://page.example"})[0] == 200


def test_drain(tmp_path):
    """SIGTERM: the running request ends well, new ones are refused, then the process is gone."""
    server = Server("drained", tmp_path)
    server.wait()
    result = {}
    body = {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 150, "ignore_eos": True}}
    thread = threading.Thread(target=lambda: result.update(answer=http(server.url + "/generate", body)))
    thread.start()
    time.sleep(0.4)
    server.popen.terminate()
    thread.join(30)
    assert result["answer"][0] == 200 and len(json.loads(result["answer"][1])["output_ids"]) == 150
    assert server.popen.wait(10) == 0


def test_metrics_count(routed):
    before = routed.decodes[0].metrics()
    post(routed.url + "/generate", {**IDS, "sampling_params": {"max_new_tokens": 7, "ignore_eos": True}})
    after = routed.decodes[0].metrics()
    assert after["sglang:generation_tokens_total"] - before["sglang:generation_tokens_total"] == 7
    assert after["sglang:num_requests_total"] - before["sglang:num_requests_total"] == 1
    assert after["baton_kv_received_bytes_total"] > before["baton_kv_received_bytes_total"]


def test_tiny_pool_retracts_and_finishes(tmp_path):
    """Pages run out: requests are retracted, none fails, tokens are those of a roomy server."""
    import concurrent.futures
    bodies = [{"input_ids": [100 + i] * 40, "sampling_params": {"max_new_tokens": 120, "ignore_eos": True, "sampling_seed": i}} for i in range(8)]
    outputs = []
    for tokens in (640, 20000):
        server = Server(f"pool{tokens}", tmp_path, extra=["--max-total-tokens", tokens, "--num-reserved-decode-tokens", 16])
        try:
            server.wait()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                outputs.append([o["output_ids"] for o in pool.map(lambda b: post(server.url + "/generate", b), bodies)])
            if tokens == 640:
                assert server.metrics()["sglang:num_retracted_requests_total"] > 0
            server.assert_no_leaks()
        finally:
            server.stop()
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("provider", ["tcp", "shm"])
def test_up_answers(tmp_path, provider):
    import subprocess
    from cluster import BATON, free_port
    done = subprocess.run([BATON, "up", "--model-path", SMOLLM2, "--port", str(free_port()), "--transfer-provider", provider,
                           "--ask", "What is 2+2?", "--once", "--log-dir", tmp_path], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4" in done.stdout.split("> What is 2+2?")[1]
    assert "KV" in done.stdout and provider in done.stdout
