#!/usr/bin/env python3
"""Kills, freezes and restarts workers at random under load and checks that no client notices.

    tests/chaos/chaos.py [--seconds 600] [--clients 64] [--prefill 2] [--decode 3] [--every 3] [--seed N] [--model tiny|smollm2|PATH]

Real processes: a router, prefill and decode servers, all on loopback over tcp. The answer to each kind of request is
recorded on the undisturbed cluster first; then clients ask for them over and over while every few seconds one worker gets
SIGKILL, SIGSTOP (and SIGCONT later) or SIGTERM, and is started again. At any time at least one prefill and one decode are
left alive and known to the router. Required: every request ends with exactly its recorded answer (streams: pieces joined, so
no token is lost or given twice), and afterwards nothing is left behind on any server or in the router.

The run passes --max-migrations and --max-worker-kills to the router, since here a healthy request may well meet more dying
workers than the defaults (3) allow for. Prints one JSON object; exit status 0 when all is well."""
import argparse
import collections
import json
import pathlib
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from cluster import GOLDEN, SMOLLM2, Cluster, http  # noqa: E402

TIMEOUT = 120  # of one request: more is a hang


def request_kinds(tokens):
    """(name, path, body): every way of streaming and not, with all kinds of state that must survive a migration."""
    def prompt(i, length):
        return [(i * 37 + j * 11 + j * j) % 340 + 5 for j in range(length)]

    greedy = {"temperature": 0, "ignore_eos": True}
    kinds = []
    for i in range(4):
        length, out = (5, 40, 130, 300)[i], tokens * (1 + i % 3)
        kinds += [
            (f"completions-stream-{i}", "/v1/completions", {"prompt": prompt(i, length), "max_tokens": out, "stream": True,
                                                            "stream_options": {"include_usage": True}, **greedy}),
            (f"completions-whole-{i}", "/v1/completions", {"prompt": prompt(i + 7, length), "max_tokens": out, **greedy}),
            (f"generate-stream-{i}", "/generate", {"input_ids": prompt(i + 9, length), "stream": True,
                                                   "sampling_params": {"max_new_tokens": out // 2, **greedy}}),
            (f"generate-whole-{i}", "/generate", {"input_ids": prompt(i + 3, length),
                                                  "sampling_params": {"max_new_tokens": out, **greedy}}),
        ]
    kinds += [
        ("seeded-stream", "/v1/completions", {"prompt": prompt(21, 60), "max_tokens": tokens, "temperature": 0.9, "top_p": 0.95,
                                              "seed": 7, "ignore_eos": True, "stream": True}),
        ("penalties-stream", "/v1/completions", {"prompt": prompt(22, 33), "max_tokens": tokens, "frequency_penalty": 0.5,
                                                 "repetition_penalty": 1.1, "stream": True, **greedy}),
        ("n2-stream", "/v1/completions", {"prompt": prompt(23, 50), "max_tokens": tokens, "n": 2, "seed": 5, "temperature": 0.8,
                                          "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}),
        ("batch-stream", "/v1/completions", {"prompt": [prompt(24, 20), prompt(25, 90)], "max_tokens": tokens, "stream": True,
                                             **greedy}),
        ("logprobs-stream", "/v1/completions", {"prompt": prompt(26, 30), "max_tokens": tokens // 2, "logprobs": 2,
                                                "stream": True, **greedy}),
        ("generate-logprobs-stream", "/generate", {"input_ids": prompt(27, 40), "stream": True, "return_logprob": True,
                                                   "logprob_start_len": 0,
                                                   "sampling_params": {"max_new_tokens": 30, **greedy}}),
        ("stops-at-eos", "/v1/completions", {"prompt": prompt(28, 25), "max_tokens": tokens, "temperature": 0, "stream": True}),
    ]
    return kinds


class Answer:
    """What a client got, in a form that does not depend on how it was cut into events."""

    def __init__(self):
        self.text = collections.defaultdict(str)
        self.finish = {}
        self.usage = None
        self.ids = {}
        self.logprob_tokens = collections.defaultdict(list)
        self.migrations = 0
        self.identities = set()

    def take_choice(self, choice):
        i = choice["index"]
        self.text[i] += choice["text"]
        if choice["finish_reason"]:
            assert i not in self.finish, f"choice {i} ended twice"
            self.finish[i] = (choice["finish_reason"], choice["matched_stop"])
        elif i in self.finish:
            raise AssertionError(f"choice {i} goes on after its end")
        if choice.get("logprobs"):
            self.logprob_tokens[i] += choice["logprobs"]["tokens"]

    def take_usage(self, usage):
        self.usage = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
        self.migrations = usage.get("baton_migrations", 0)

    def take_native(self, event, streamed):
        i = event.get("index", 0)
        meta = event["meta_info"]
        assert event["text"].startswith(self.text[i]), "cumulative text went back"
        assert event["output_ids"][:len(self.ids.get(i, []))] == self.ids.get(i, []), "cumulative ids went back"
        if streamed:
            assert len(event["output_ids"]) == meta["completion_tokens"]
        self.text[i] = event["text"]
        self.ids[i] = event["output_ids"]
        self.usage = (meta["prompt_tokens"], meta["completion_tokens"])
        self.migrations = meta.get("baton_migrations", 0)
        self.identities.add(meta["id"])
        if "input_token_logprobs" in meta:
            self.logprob_tokens[i] = [e[1] for e in meta["input_token_logprobs"] + meta["output_token_logprobs"]]
        if meta["finish_reason"]:
            self.finish[i] = json.dumps(meta["finish_reason"])

    def take(self, event, streamed):
        if "error" in event:
            raise AssertionError(f"error event: {json.dumps(event['error'])[:400]}")
        if "meta_info" in event:
            return self.take_native(event, streamed)
        self.identities.add((event["id"], event["created"]))
        for choice in event["choices"]:
            self.take_choice(choice)
        if event.get("usage"):
            self.take_usage(event["usage"])

    def key(self):
        return (dict(self.text), dict(self.finish), self.usage, self.ids, dict(self.logprob_tokens))


def ask(url, path, body):
    """The Answer of one request; an exception when it failed."""
    streamed = body.get("stream", False)
    request = urllib.request.Request(url + path, json.dumps({**body, "model": "m"}).encode() if path != "/generate"
                                     else json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer = Answer()
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if not streamed:
            answer.take(json.loads(response.read()), False)
        else:
            done = False
            for line in response:
                assert not done or line == b"\n", f"after [DONE]: {line[:200]}"
                assert not line.startswith(b":"), f"a comment of ours leaked: {line[:200]}"
                if line.startswith(b"data: [DONE]"):
                    done = True
                elif line.startswith(b"data: "):
                    answer.take(json.loads(line[6:]), True)
            assert done, "the stream ended without [DONE]"
    assert len(answer.identities) == 1, f"id or created changed: {answer.identities}"
    return answer


class Client(threading.Thread):
    def __init__(self, run, number):
        super().__init__(daemon=True)
        self.run_, self.random = run, random.Random(run.seed * 1000 + number)

    def run(self):
        run = self.run_
        while not run.over.is_set():
            name, path, body = self.random.choice(run.kinds)
            begin = time.time()
            try:
                answer = ask(run.cluster.url, path, body)
                wrong = None if answer.key() == run.expected[name] else "another answer"
                detail = None if not wrong else {"got": repr(answer.key())[:2000], "want": repr(run.expected[name])[:2000]}
                run.note(name, begin, wrong, detail, answer.migrations)
            except urllib.error.HTTPError as error:
                run.note(name, begin, f"HTTP {error.code}", error.read().decode(errors="replace")[:500], 0)
            except Exception as error:  # whatever it is, the client noticed
                run.note(name, begin, f"{type(error).__name__}: {error}", None, 0)


class Run:
    def __init__(self, cluster, kinds, seed):
        self.cluster, self.kinds, self.seed = cluster, kinds, seed
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.done, self.migrations, self.slowest = 0, 0, 0.0
        self.failures, self.actions, self.failed_starts = [], [], []
        self.started = time.time()
        self.busy = {}  # server -> when it may be live again; None: frozen
        self.expected = {name: ask(cluster.url, path, body).key() for name, path, body in kinds}

    def note(self, name, begin, wrong, detail, migrations):
        with self.lock:
            self.done += 1
            self.migrations += migrations
            self.slowest = max(self.slowest, time.time() - begin)
            if wrong:
                self.failures.append({"kind": name, "from": round(begin - self.started, 2),
                                      "to": round(time.time() - self.started, 2), "what": wrong, "detail": detail})

    def live(self, servers):
        """Those that run and that the router takes requests for."""
        workers = json.loads(http(self.cluster.url + "/workers", timeout=10)[1])["workers"]
        healthy = {w["url"].rstrip("/") for w in workers if w["is_healthy"]}
        return [s for s in servers if s.url in healthy and s not in self.busy]

    def disturb(self):
        """One action on one worker whose role has another live one."""
        able = []
        for servers in (self.cluster.prefills, self.cluster.decodes):
            live = self.live(servers)
            if len(live) > 1:
                able += live
        if not able:
            return
        victim = self.random.choice(able)
        action = self.random.choice(["kill", "kill", "freeze", "term"])
        self.busy[victim] = action
        self.actions.append((round(time.time() - self.started, 2), action, victim.name))
        threading.Thread(target=self.carry_out, args=(victim, action, self.random.uniform(0.1, 4)), daemon=True).start()

    def carry_out(self, victim, action, seconds):
        if action == "freeze":
            victim.popen.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            victim.popen.send_signal(signal.SIGCONT)
        elif action == "kill":
            victim.kill()
            time.sleep(seconds / 4)
            self.start(victim)
        else:
            victim.stop()  # drains for a while, then is killed
            self.start(victim)
        time.sleep(0.5)  # a probe of the router or two: what it knows is fresh again
        del self.busy[victim]

    def start(self, server):
        """As a supervisor would: once more when it ends while it starts (a self-test that starved, say). Counted."""
        for attempt in range(5):
            server.start()
            try:
                return server.wait()
            except AssertionError:
                if server.popen.poll() is None or attempt == 4:
                    raise
                self.failed_starts.append(server.tail(1))

    def wait_healed(self, timeout=60):
        end = time.time() + timeout
        servers = self.cluster.servers
        while (self.busy or len(self.live(servers)) < len(servers)) and time.time() < end:
            time.sleep(0.2)
        assert len(self.live(servers)) == len(servers), "not all workers came back"


def leaks(cluster):
    """What is left behind once nobody asks for anything."""
    found = []
    for server in cluster.servers:
        try:
            server.assert_no_leaks(20)
        except AssertionError as error:
            found.append(str(error)[:600])
    end = time.time() + 15
    while True:
        held = [line for line in http(cluster.url + "/metrics")[1].splitlines()
                if line.startswith(("smg_router_requests_active", "smg_worker_requests_active")) and not line.endswith(" 0")]
        if not held or time.time() > end:
            return found + held
        time.sleep(0.2)


def chaos(seconds=600, clients=64, prefill=2, decode=3, every=3.0, seed=1, model="tiny", tokens=400):
    tiny = GOLDEN / "tiny" / "llama"
    extra = ["--max-running-requests", 64]
    path = {"tiny": tiny, "smollm2": SMOLLM2}.get(model, model)
    if path == tiny:
        extra += ["--tokenizer-path", SMOLLM2]  # its first ids make bytes of all kinds, broken UTF-8 among them
    router_extra = ["--max-migrations", 1000, "--max-worker-kills", 1000]
    with Cluster(prefill, decode, model=path, extra=extra, router_extra=router_extra) as cluster:
        run = Run(cluster, request_kinds(tokens), seed)
        threads = [Client(run, i) for i in range(clients)]
        for thread in threads:
            thread.start()
        end = time.time() + seconds
        while time.time() < end:
            time.sleep(every * run.random.uniform(0.5, 1.5))
            run.disturb()
        run.wait_healed()
        run.over.set()
        for thread in threads:
            thread.join(TIMEOUT)
        hung = sum(thread.is_alive() for thread in threads)
        report = {"seconds": seconds, "clients": clients, "seed": seed, "requests": run.done, "failed": len(run.failures),
                  "hung": hung, "actions": len(run.actions), "migrations": run.migrations,
                  "slowest_s": round(run.slowest, 2), "leaks": leaks(cluster), "failed_starts": run.failed_starts, "failures": run.failures[:10],
                  "logs": cluster.log_dir if run.failures else None}
        if run.failures:
            report["last_actions"] = run.actions
        return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--prefill", type=int, default=2)
    parser.add_argument("--decode", type=int, default=3)
    parser.add_argument("--every", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--model", default="tiny")
    report = chaos(**vars(parser.parse_args()))
    print(json.dumps(report, indent=1))
    return 1 if report["failed"] or report["hung"] or report["leaks"] else 0


if __name__ == "__main__":
    sys.exit(main())
