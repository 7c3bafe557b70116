"""The real `openai` client through our router, and the same suite through the real sglang-router."""
import concurrent.futures
import math

import httpx
import openai
import pytest

from cluster import post

GREETING = [{"role": "user", "content": "What is 2+2?"}]


@pytest.fixture
def client(routed):
    with openai.OpenAI(base_url=routed.url + "/v1", api_key="none", timeout=60, max_retries=0) as c:
        yield c


def collect(stream):
    """Text per choice, finish reasons, usage, number of chunks."""
    text, reasons, usage, chunks = {}, {}, None, 0
    for chunk in stream:
        chunks += 1
        usage = chunk.usage or usage
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            text[choice.index] = text.get(choice.index, "") + (piece or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return text, reasons, usage, chunks


def test_models(client):
    models = client.models.list()
    assert [m.id for m in models.data] == ["m"]


def test_chat(client):
    answer = client.chat.completions.create(model="m", messages=GREETING, temperature=0, max_tokens=40)
    assert "4" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 37
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_stream_is_the_whole_answer(client):
    whole = client.chat.completions.create(model="m", messages=GREETING, temperature=0, max_tokens=40)
    text, reasons, usage, chunks = collect(client.chat.completions.create(
        model="m", messages=GREETING, temperature=0, max_tokens=40, stream=True, stream_options={"include_usage": True}))
    assert text == {0: whole.choices[0].message.content}
    assert reasons == {0: "stop"}
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert chunks > 5


def test_length_finish(client):
    answer = client.chat.completions.create(model="m", messages=GREETING, temperature=0, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_chat_n(client):
    answer = client.chat.completions.create(model="m", messages=GREETING, temperature=1, max_tokens=12, n=3, seed=5)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1
    assert answer.usage.prompt_tokens == 37


def test_seed_repeats(client):
    def one():
        return client.chat.completions.create(model="m", messages=GREETING, temperature=1, max_tokens=20, seed=11).choices[0].message.content
    first = one()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: one(), range(6))) == {first}


def test_chat_logprobs(client):
    answer = client.chat.completions.create(model="m", messages=GREETING, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == 6
    assert "".join(t.token for t in content) == answer.choices[0].message.content
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
        assert bytes(token.bytes).decode() == token.token
        assert sum(math.exp(t.logprob) for t in token.top_logprobs) <= 1.0001


def test_chat_stream_logprobs(client):
    tokens = []
    for chunk in client.chat.completions.create(model="m", messages=GREETING, temperature=0, max_tokens=6, logprobs=True,
                                                top_logprobs=2, stream=True):
        for choice in chunk.choices:
            if choice.logprobs and choice.logprobs.content:
                tokens += choice.logprobs.content
    assert len(tokens) == 6
    assert all(len(t.top_logprobs) == 2 for t in tokens)


def test_completion(client):
    answer = client.completions.create(model="m", prompt="The capital of France is", temperature=0, max_tokens=5)
    assert "Paris" in answer.choices[0].text
    assert answer.object == "text_completion"


def test_completion_stream(client):
    whole = client.completions.create(model="m", prompt="Once upon a time", temperature=0, max_tokens=30).choices[0].text
    text, reasons, _, _ = collect(client.completions.create(model="m", prompt="Once upon a time", temperature=0, max_tokens=30, stream=True))
    assert text == {0: whole}
    assert reasons == {0: "length"}


def test_completion_batch(client):
    answer = client.completions.create(model="m", prompt=["One, two,", "Red, green,"], temperature=0, max_tokens=4)
    single = [client.completions.create(model="m", prompt=p, temperature=0, max_tokens=4).choices[0].text for p in ("One, two,", "Red, green,")]
    assert [c.text for c in answer.choices] == single


def test_completion_n(client, routed):
    """sglang-router sends one room for all samples, and SGLang's servers mix up their transfers; ours count on from it."""
    seeded = {"model": "m", "prompt": "Once upon a", "max_tokens": 8, "temperature": 1, "seed": 3}
    answer = client.completions.create(**seeded, n=2)
    assert [c.index for c in answer.choices] == [0, 1] and answer.choices[0].text != answer.choices[1].text
    native = post(routed.url + "/generate", {"text": "Once upon a", "sampling_params": {"max_new_tokens": 4, "n": 3}})
    assert [len(o["output_ids"]) for o in native] == [4, 4, 4]


def test_completion_logprobs_and_echo(client):
    answer = client.completions.create(model="m", prompt="The capital of France is", temperature=0, max_tokens=3, logprobs=2, echo=True)
    choice = answer.choices[0]
    assert choice.text.startswith("The capital of France is")
    assert choice.logprobs.token_logprobs[0] is None
    assert all(lp <= 0 for lp in choice.logprobs.token_logprobs[1:])
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.tokens) == len(choice.logprobs.top_logprobs) == len(choice.logprobs.text_offset)
    assert [choice.text[o:].startswith(t) for o, t in zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True)] == [True] * len(choice.logprobs.tokens)


def test_stop_string(client):
    full = client.completions.create(model="m", prompt="Count: 1, 2, 3,", temperature=0, max_tokens=24).choices[0].text
    stop = full[6:9]
    cut = client.completions.create(model="m", prompt="Count: 1, 2, 3,", temperature=0, max_tokens=24, stop=[stop])
    assert cut.choices[0].text == full[:full.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    text, reasons, _, _ = collect(client.completions.create(model="m", prompt="Count: 1, 2, 3,", temperature=0, max_tokens=24, stop=[stop], stream=True))
    assert text == {0: full[:full.index(stop)]}
    assert reasons == {0: "stop"}


def test_unicode_is_never_split(client):
    text, _, _, _ = collect(client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Repeat exactly: 🎉🎊 Zürich – 東京 🏯"}], temperature=0, max_tokens=60, stream=True))
    assert "�" not in text[0]


def test_penalties_and_bias_are_honoured(client):
    biased = client.completions.create(model="m", prompt="Hello", temperature=0, max_tokens=4, logit_bias={"504": 100}).choices[0].text
    assert biased == "The" * 4
    repeated = client.completions.create(model="m", prompt="a a a a a a a a", temperature=0, max_tokens=20).choices[0].text
    penalised = client.completions.create(model="m", prompt="a a a a a a a a", temperature=0, max_tokens=20, frequency_penalty=2.0).choices[0].text
    assert repeated != penalised


@pytest.mark.parametrize("bad", [
    {"messages": []},
    {"temperature": -1},
    {"top_p": 0},
    {"max_tokens": -3},
    {"n": 0},
    {"logprobs": True, "top_logprobs": 10000},
    {"messages": [{"role": "user", "content": "word " * 9000}]},
])
def test_errors_are_400(client, bad):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "m", "messages": GREETING, **bad})
    assert caught.value.status_code in (400, 422)
    assert caught.value.message


def test_thirty_two_at_once(client):
    def one(i):
        return client.completions.create(model="m", prompt=f"Number {i}:", temperature=0, max_tokens=10).choices[0].text
    alone = [one(i) for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(one, range(32)))
    assert together[:4] == alone


def test_client_disconnect_frees_everything(routed):
    with httpx.Client(timeout=30) as http:
        body = {"model": "m", "prompt": "Tell me a long story", "max_tokens": 2000, "stream": True, "ignore_eos": True}
        with http.stream("POST", routed.url + "/v1/completions", json=body) as answer:
            for i, _ in enumerate(answer.iter_lines()):
                if i > 4:
                    break
    for server in routed.servers:
        server.assert_no_leaks(timeout=8)


def test_generate_native(routed):
    out = post(routed.url + "/generate", {"text": "The capital of France is", "sampling_params": {"temperature": 0, "max_new_tokens": 5}})
    assert "Paris" in out["text"]
    assert len(out["output_ids"]) == 5
    assert out["meta_info"]["completion_tokens"] == 5
    assert out["meta_info"]["finish_reason"] == {"type": "length", "length": 5}
    batch = post(routed.url + "/generate", {"input_ids": [[1, 2, 3], [4, 5, 6, 7]], "sampling_params": {"temperature": 0, "max_new_tokens": 3}})
    assert [len(o["output_ids"]) for o in batch] == [3, 3]


def test_generate_logprobs(routed):
    ids = [504, 3575, 282, 4649, 314]
    out = post(routed.url + "/generate", {"input_ids": ids, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2,
                                          "sampling_params": {"temperature": 0, "max_new_tokens": 3}})
    meta = out["meta_info"]
    assert [e[1] for e in meta["input_token_logprobs"]] == ids
    assert [e[1] for e in meta["output_token_logprobs"]] == out["output_ids"]
