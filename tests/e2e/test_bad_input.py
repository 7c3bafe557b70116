"""Bad input: each a clear 4xx (or exit code), the server alive afterwards."""
import json
import os
import pathlib
import socket
import struct
import subprocess

import pytest

from cluster import BATON, GOLDEN, SMOLLM2, Cluster, http, post

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
TEXT = {"model": "m", "prompt": "hi", "max_tokens": 2}
IDS = {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2}}


def sampled(**params):
    return {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 2, **params}}


# (path, body or raw bytes, expected status, words that the message must hold)
REQUESTS = {
    "empty body": ("/generate", b"", 400, "empty"),
    "not json": ("/generate", b"{nope", 400, "JSON"),
    "cut json": ("/v1/chat/completions", json.dumps(CHAT).encode()[:-5], 400, "JSON"),
    "two values": ("/generate", b"{} {}", 400, "JSON"),
    "array body": ("/generate", b"[1]", 400, "object"),
    "string body": ("/v1/completions", b'"hi"', 400, "object"),
    "bad utf-8": ("/v1/completions", b'{"prompt": "\xff\xfe"}', 400, "JSON"),
    "lone surrogate": ("/v1/completions", b'{"prompt": "\\ud800"}', 400, "JSON"),
    "deep nesting": ("/generate", b"[" * 5000 + b"]" * 5000, 400, "JSON"),
    "no prompt native": ("/generate", {}, 400, "text"),
    "both prompts": ("/generate", {**IDS, "text": "a"}, 400, "not both"),
    "text is number": ("/generate", {"text": 5}, 400, "text"),
    "text list of numbers": ("/generate", {"text": [5]}, 400, "text"),
    "empty text list": ("/generate", {"text": []}, 400, "text"),
    "empty text": ("/generate", {"text": ""}, 400, "empty"),
    "empty ids": ("/generate", {"input_ids": []}, 400, "empty"),
    "ids are strings": ("/generate", {"input_ids": ["a"]}, 400, "input_ids"),
    "negative id": ("/generate", {"input_ids": [-1]}, 400, "input_ids"),
    "fractional id": ("/generate", {"input_ids": [1.5]}, 400, "input_ids"),
    "id above vocabulary": ("/generate", {"input_ids": [49152]}, 400, "vocabulary"),
    "huge id": ("/generate", {"input_ids": [2**40]}, 400, "input_ids"),
    "prompt too long": ("/generate", {"input_ids": [1] * 9000}, 400, "9000"),
    "output too long": ("/generate", sampled(max_new_tokens=100000), 400, "context"),
    "params not object": ("/generate", {"input_ids": [1], "sampling_params": 3}, 400, "sampling_params"),
    "unknown param": ("/generate", sampled(temprature=1), 400, "temprature"),
    "temperature text": ("/generate", sampled(temperature="hot"), 400, "temperature"),
    "temperature negative": ("/generate", sampled(temperature=-0.1), 400, "temperature"),
    "temperature infinite": ("/generate", b'{"input_ids":[1],"sampling_params":{"temperature":1e999}}', 400, "temperature"),
    "top_p zero": ("/generate", sampled(top_p=0), 400, "top_p"),
    "top_p above one": ("/generate", sampled(top_p=1.5), 400, "top_p"),
    "top_k below -1": ("/generate", sampled(top_k=-5), 400, "top_k"),
    "min_p above one": ("/generate", sampled(min_p=2), 400, "min_p"),
    "frequency too high": ("/generate", sampled(frequency_penalty=3), 400, "frequency_penalty"),
    "presence too low": ("/generate", sampled(presence_penalty=-3), 400, "presence_penalty"),
    "repetition zero": ("/generate", sampled(repetition_penalty=-1), 400, "repetition_penalty"),
    "max_new_tokens negative": ("/generate", sampled(max_new_tokens=-1), 400, "max_new_tokens"),
    "max_new_tokens text": ("/generate", sampled(max_new_tokens="9"), 400, "max_new_tokens"),
    "min above max": ("/generate", sampled(min_new_tokens=50), 400, "min_new_tokens"),
    "n zero": ("/generate", sampled(n=0), 400, "n must"),
    "n huge": ("/generate", sampled(n=100000), 400, "n must"),
    "stop number": ("/generate", sampled(stop=5), 400, "stop"),
    "stop empty string": ("/generate", sampled(stop=[""]), 400, "stop"),
    "too many stops": ("/generate", sampled(stop=["x"] * 1000), 400, "stop"),
    "stop id text": ("/generate", sampled(stop_token_ids=["a"]), 400, "stop_token_ids"),
    "bias key": ("/generate", sampled(logit_bias={"abc": 1}), 400, "logit_bias"),
    "bias value": ("/generate", sampled(logit_bias={"5": "x"}), 400, "logit_bias"),
    "bias out of vocabulary": ("/generate", sampled(logit_bias={"99999999": 1}), 400, "logit_bias"),
    "json schema": ("/generate", sampled(json_schema="{}"), 400, "json_schema"),
    "image": ("/generate", {**IDS, "image_data": "x"}, 400, "image_data"),
    "params list too short": ("/generate", {"input_ids": [[1], [2]], "sampling_params": [{}]}, 400, "sampling_params"),
    "top logprobs negative": ("/generate", {**IDS, "return_logprob": True, "top_logprobs_num": -1}, 400, "top_logprobs_num"),
    "logprob flag text": ("/generate", {**IDS, "return_logprob": "yes"}, 400, "return_logprob"),
    "stream text": ("/generate", {**IDS, "stream": "yes"}, 400, "stream"),
    "rid number": ("/generate", {**IDS, "rid": 7}, 400, "rid"),
    "room negative": ("/generate", {**IDS, "bootstrap_room": -5}, 400, "bootstrap_room"),
    "room text": ("/generate", {**IDS, "bootstrap_room": "a"}, 400, "bootstrap_room"),
    "port out of range": ("/generate", {**IDS, "bootstrap_port": 70000}, 400, "bootstrap_port"),
    "host number": ("/generate", {**IDS, "bootstrap_host": 5}, 400, "bootstrap_host"),
    "no messages": ("/v1/chat/completions", {"model": "m"}, 400, "messages"),
    "empty messages": ("/v1/chat/completions", {**CHAT, "messages": []}, 400, "messages"),
    "messages text": ("/v1/chat/completions", {**CHAT, "messages": "hi"}, 400, "messages"),
    "message number": ("/v1/chat/completions", {**CHAT, "messages": [1]}, 400, "messages[0]"),
    "no role": ("/v1/chat/completions", {**CHAT, "messages": [{"content": "x"}]}, 400, "role"),
    "no content": ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user"}]}, 400, "content"),
    "content number": ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": 5}]}, 400, "content"),
    "image part": ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text"),
    "top_logprobs alone": ("/v1/chat/completions", {**CHAT, "top_logprobs": 3}, 400, "logprobs"),
    "stream_options alone": ("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}, 400, "stream"),
    "response_format": ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}, 400, "response_format"),
    "template kwargs": ("/v1/chat/completions", {**CHAT, "chat_template_kwargs": []}, 400, "chat_template_kwargs"),
    "prompt missing": ("/v1/completions", {"model": "m"}, 400, "prompt"),
    "prompt number": ("/v1/completions", {**TEXT, "prompt": 5}, 400, "prompt"),
    "prompt mixed": ("/v1/completions", {**TEXT, "prompt": [1, "a"]}, 400, "prompt"),
    "prompt empty list": ("/v1/completions", {**TEXT, "prompt": []}, 400, "prompt"),
    "suffix": ("/v1/completions", {**TEXT, "suffix": "x"}, 400, "suffix"),
    "best_of": ("/v1/completions", {**TEXT, "best_of": 5}, 400, "best_of"),
    "n zero openai": ("/v1/completions", {**TEXT, "n": 0}, 400, "n must"),
    "huge text": ("/v1/completions", {**TEXT, "prompt": "a" * 3_000_000}, 400, "bytes"),
    "unknown path": ("/v1/nothing", {}, 404, ""),
    "tokenize nothing": ("/tokenize", {}, 400, "prompt"),
    "detokenize text": ("/detokenize", {"tokens": "abc"}, 400, "tokens"),
    "detokenize range": ("/detokenize", {"tokens": [10**6]}, 400, "vocabulary"),
    "abort nothing": ("/abort_request", {}, 400, "rid"),
}


TYPED = (422, "Failed to deserialize")  # read into types of its own before any worker is asked
DROPPED = (200, "")  # the member is not passed on, or a value of the router's takes its place
NO_ROUTE = (404, "")
# What a router answers where that is not what the server says: (status, words).
ROUTED = {
    "baton": {
        "empty body": (400, "ends at byte 0"),
        "n huge": (400, "8192 samples"),  # each is given a room
        **dict.fromkeys(["room negative", "room text", "port out of range", "host number"], DROPPED),
        "abort nothing": NO_ROUTE,
    },
    "sglang": {
        "empty body": (400, "EOF"),
        **dict.fromkeys(["array body", "string body", "deep nesting", "text is number", "text list of numbers", "empty text list",
                         "ids are strings", "fractional id", "huge id", "params not object", "temperature text", "max_new_tokens negative",
                         "max_new_tokens text", "stop number", "stop id text", "params list too short", "logprob flag text",
                         "stream text", "rid number", "room text", "host number", "prompt missing", "prompt number", "prompt mixed"], TYPED),
        **dict.fromkeys(["unknown param", "bias key", "bias value", "bias out of vocabulary", "room negative", "port out of range"], DROPPED),
        **dict.fromkeys(["content number", "image part"], (400, "messages[0]")),
        **dict.fromkeys(["tokenize nothing", "detokenize text", "detokenize range", "abort nothing"], NO_ROUTE),
    },
}


@pytest.fixture(scope="module")
def server(mono):
    yield mono.mono
    assert post(mono.url + "/generate", IDS)["output_ids"]
    mono.mono.assert_no_leaks()


@pytest.mark.parametrize("name", REQUESTS)
def test_request(server, name):
    path, body, status, words = REQUESTS[name]
    got, text = http(server.url + path, body, 30, method="POST")
    assert got == status, text[:300]
    if status == 400:
        error = json.loads(text)
        assert words in error["error"]["message"], text[:300]
        if path.startswith("/v1"):
            assert error["object"] == "error" and error["code"] == 400
    assert http(server.url + "/health")[0] == 200


@pytest.mark.parametrize("name", REQUESTS)
def test_request_through_a_router(routed, router, name):
    path, body, status, words = REQUESTS[name]
    status, words = ROUTED[router].get(name, (status, words))
    got, text = http(routed.url + path, body, 30, method="POST")
    assert got == status, text[:300]
    message = json.loads(text)["error"]["message"] if text.startswith("{") and status >= 400 else text
    assert words in message, text[:300]


@pytest.fixture
def still_serves(routed):
    yield
    assert post(routed.url + "/generate", IDS)["output_ids"]
    for server in routed.servers:
        server.assert_no_leaks()


def test_unknown_model_through_a_router(routed, still_serves):
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        status, text = http(routed.url + path, {**body, "model": "other"})
        assert status == 404 and "'other' does not exist" in json.loads(text)["error"]["message"], text


def test_wrong_method_and_media_type_through_a_router(routed, still_serves):
    assert http(routed.url + "/generate", method="DELETE")[0] == 405
    status, text = http(routed.url + "/v1/chat/completions", json.dumps(CHAT).encode(), headers={"Content-Type": "text/plain"})
    assert status == 400 and "Content-Type" in json.loads(text)["error"]["message"]


def test_unknown_model(server):
    status, text = http(server.url + "/v1/models/other")
    assert status == 404 and json.loads(text)["error"]["code"] == "model_not_found"
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        status, text = http(server.url + path, {**body, "model": "other"})
        assert status == 404 and json.loads(text)["error"]["code"] == "model_not_found", text
        assert http(server.url + path, {**body, "model": "default"})[0] == 200

def test_wrong_method(server):
    assert http(server.url + "/generate", method="DELETE")[0] == 405


def test_wrong_media_type(server):
    status, text = http(server.url + "/v1/chat/completions", json.dumps(CHAT).encode(), headers={"Content-Type": "text/plain"})
    assert status == 400 and "Content-Type" in text


def raw(server, data, timeout=30):
    """What the server answers to raw bytes, until it closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as s:
        s.sendall(data)
        out = b""
        try:
            while b"\r\n\r\n" not in out:
                piece = s.recv(65536)
                if not piece:
                    break
                out += piece
        except TimeoutError:
            pass
        return out


@pytest.mark.parametrize("name,data,status", [
    ("huge declared body", b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", 413),
    ("two lengths", b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    ("length and chunked", b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ("huge header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n", 431),
])
def test_raw(server, name, data, status):
    assert raw(server, data).startswith(b"HTTP/1.1 %d" % status)
    assert http(server.url + "/health")[0] == 200


def test_slow_body_is_not_a_hang(server):
    """A client that never sends its body holds a connection, not the server."""
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert post(server.url + "/generate", IDS)["output_ids"]


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_request_without_room(pair, role):
    server = (pair.prefills if role == "prefill" else pair.decodes)[0]
    status, text = http(server.url + "/generate", IDS)
    assert status == 400 and "without bootstrap room" in text


def test_wrong_bootstrap(pair):
    """Nobody at the bootstrap address: a clear error, soon."""
    status, text = http(pair.decodes[0].url + "/generate", {**IDS, "bootstrap_host": "127.0.0.1", "bootstrap_port": 9, "bootstrap_room": 77}, 30)
    assert status in (502, 503), text
    assert "prefill" in text
    pair.decodes[0].assert_no_leaks()


def run(*arguments, timeout=60):
    done = subprocess.run([BATON, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("arguments,code,words", [
    (["serve"], 2, "--model-path"),
    (["serve", "--model-path", SMOLLM2, "--prot", "1"], 2, "did you mean --port"),
    (["serve", "--model-path", SMOLLM2, "--disaggregation-mod", "sideways"], 2, "one of"),
    (["serve", "--model-path", SMOLLM2, "--port", "abc"], 2, "integer"),
    (["serve", "--model-path", SMOLLM2, "--port", "99999"], 2, "65535"),
    (["serve", "--model-path", SMOLLM2, "--port"], 2, "needs a value"),
    (["serve", "--model-path", SMOLLM2, "--page", "0"], 2, "page-size"),
    (["serve", "--model-path", SMOLLM2, "--disaggregation"], 2, "could mean"),
    (["serve", "--model-path", SMOLLM2, "--tp", "8"], 2, "one rank"),
    (["serve", "--model-path", "/nowhere/model.gguf"], 2, "nowhere"),
    (["serve", "--model-path", "no-such-org/no-such-model"], 2, "no-such-model"),
    (["serve", "--model-path", SMOLLM2, "--isa", "mmx"], 2, "mmx"),
    (["serve", "--model-path", SMOLLM2, "--disaggregation-mode", "decode", "--require-rdma"], None, "tcp"),
    (["router", "--nonsense"], 2, ""),
    (["nonsense"], 2, "unknown command"),
    (["render-chat", "x.json"], 2, "usage"),
    (["up"], 2, "--model-path"),
    (["bench", "engine"], 2, "model-path"),
])
def test_command_line(arguments, code, words):
    got, text = run(*arguments)
    assert got == code if code is not None else got not in (0, None)
    assert words in text, text[-500:]


def corrupt_gguf(kind):
    whole = bytearray(SMOLLM2.read_bytes()[:4_000_000])
    return {
        "cut in metadata": whole[:1000],
        "cut in tensors": whole,
        "magic": b"GGML" + whole[4:],
        "version": whole[:4] + struct.pack("<I", 99) + whole[8:],
        "tensor count": whole[:8] + struct.pack("<Q", 2**60) + whole[16:],
        "key count": whole[:16] + struct.pack("<Q", 2**60) + whole[24:],
        "key length": whole[:24] + struct.pack("<Q", 2**62) + whole[32:],
        "empty": b"",
        "text": b"hello world, this is no model",
    }[kind]


@pytest.mark.parametrize("kind", ["cut in metadata", "cut in tensors", "magic", "version", "tensor count", "key count", "key length", "empty", "text"])
def test_corrupt_gguf(tmp_path, kind):
    file = tmp_path / "model.gguf"
    file.write_bytes(corrupt_gguf(kind))
    code, text = run("serve", "--model-path", file)
    assert code in (2, 3), text
    assert "model.gguf" in text and len(text.splitlines()[-1]) > 20


@pytest.mark.parametrize("kind", ["cut", "header length", "header json", "no config", "config text", "missing tensor"])
def test_corrupt_safetensors(tmp_path, kind):
    source = GOLDEN / "tiny" / "llama"
    config, weights = (source / "config.json").read_bytes(), (source / "model.safetensors").read_bytes()
    if kind == "cut":
        weights = weights[:-1000]
    elif kind == "header length":
        weights = struct.pack("<Q", 2**60) + weights[8:]
    elif kind == "header json":
        weights = weights[:8] + b"?" + weights[9:]
    elif kind == "config text":
        config = b"not json"
    elif kind == "missing tensor":
        weights = weights.replace(b"model.norm.weight", b"model.nORM.weight", 1)
    (tmp_path / "model.safetensors").write_bytes(weights)
    if kind != "no config":
        (tmp_path / "config.json").write_bytes(config)
    code, text = run("serve", "--model-path", tmp_path, "--skip-tokenizer-init")
    assert code in (2, 3), text
    assert len(text.splitlines()[-1]) > 20
