"""A decode server is killed in the middle of a stream of a real model: the client sees one whole answer."""
import json
import urllib.request

import pytest

from cluster import Cluster, http

CHAT = {"messages": [{"role": "user", "content": "Name three rivers of Europe, with a sentence about each."}], "model": "m",
        "temperature": 0, "max_tokens": 60, "stream": True, "stream_options": {"include_usage": True}}


def events(url, path, body, on_event=lambda count: None):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    out = []
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            assert not line.startswith(b":"), line
            if line.startswith(b"data: {"):
                out.append(json.loads(line[6:]))
                on_event(len(out))
    return out


def summary(got):
    """Text and what ended it; everything of a chat stream that must not depend on a migration."""
    choices = [e["choices"][0] for e in got if e["choices"]]
    return {"text": "".join(c["delta"].get("content", "") for c in choices),
            "roles": [c["delta"]["role"] for c in choices if "role" in c["delta"]],
            "ends": [c["finish_reason"] for c in choices if c["finish_reason"]],
            "logprobs": [e["token"] for c in choices if c["logprobs"] for e in c["logprobs"]["content"]],
            "tokens": got[-1]["usage"]["completion_tokens"], "prompt": got[-1]["usage"]["prompt_tokens"]}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(1, 2) as c:
        yield c
        for server in c.servers:
            server.assert_no_leaks()


@pytest.mark.parametrize("change", [{}, {"seed": 3, "temperature": 0.8}, {"logprobs": True, "top_logprobs": 2},
                                    {"frequency_penalty": 0.6, "stop": ["Danube is not a stop", "\n\n\n"]}])
@pytest.mark.timeout(180)
def test_chat_survives_the_death_of_its_decode(cluster, change):
    body = {**CHAT, **change}
    want = events(cluster.url, "/v1/chat/completions", body)

    def kill_the_busy_one(count):
        if count != 12:
            return
        for decode in cluster.decodes:
            if decode.metrics()["sglang:num_running_reqs"]:
                decode.kill()
                return
        raise AssertionError("no decode is busy")

    got = events(cluster.url, "/v1/chat/completions", body, kill_the_busy_one)
    assert summary(got) == summary(want)
    assert got[-1]["usage"]["baton_migrations"] == 1
    assert len({(e["id"], e["created"]) for e in got}) == 1
    for decode in cluster.decodes:
        if decode.popen.poll() is not None:
            decode.start()
            decode.wait()
    while json.loads(http(cluster.url + "/readiness")[1])["healthy_workers"] < 3:
        pass


def test_bad_continuations_are_refused(cluster):
    decode = cluster.decodes[0].url
    for resume, stream in [(1, True), ({}, True), ({"choices": []}, True), ({"choices": [{"ids": ["a"]}]}, True),
                           ({"choices": [{"ids": [-1]}]}, True), ({"choices": [{"ids": [1]}, {}]}, True),
                           ({"choices": [{"ids": [1]}]}, False), ({"choices": [{"ids": [10 ** 9]}]}, True)]:
        for path, prompt in [("/v1/completions", {"prompt": [1, 2]}), ("/generate", {"input_ids": [1, 2]})]:
            status, text = http(decode + path, {**prompt, "stream": stream, "baton_resume": resume, "bootstrap_room": 1,
                                                "bootstrap_host": "2.2.2.2"})
            assert status == 400, (resume, path, text)
            assert "error" in json.loads(text)
