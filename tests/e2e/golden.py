"""Compares a running server with goldens made by Hugging Face transformers in float32 (tests/golden)."""
from cluster import post


def forced_logprobs(url, ids):
    """Logprob of every prompt token but the first, given the ones before it."""
    out = post(url + "/generate", {"input_ids": ids, "return_logprob": True, "logprob_start_len": 0,
                                   "sampling_params": {"temperature": 0, "max_new_tokens": 1, "ignore_eos": True}})
    entries = out["meta_info"]["input_token_logprobs"]
    assert [e[1] for e in entries] == ids
    assert entries[0][0] is None
    return [e[0] for e in entries[1:]]


def assert_golden(url, golden, mean_tol, max_tol, margin):
    if "prompt" in golden:
        forced = (golden["prompt"], golden["next_logprob"])
        chats = [(golden["prompt"], golden["greedy"], golden["greedy_margin"])]
    else:
        forced = (golden["paragraph"]["ids"], golden["paragraph"]["next_logprob"])
        chats = [(c["ids"], c["greedy"], c["greedy_margin"]) for c in golden["chats"]]
    differences = [abs(a - b) for a, b in zip(forced_logprobs(url, forced[0]), forced[1], strict=True)]
    assert sum(differences) / len(differences) <= mean_tol
    assert max(differences) <= max_tol
    for ids, want, margins in chats:
        out = post(url + "/generate", {"input_ids": ids, "sampling_params": {
            "temperature": 0, "max_new_tokens": len(want), "ignore_eos": True}})
        for i, (token, expected, m) in enumerate(zip(out["output_ids"], want, margins, strict=True)):
            if token != expected:
                assert m < margin, f"token {i}: {token}, golden {expected} at margin {m}"
                break  # a tie fell the other way: the rest is another text
