"""Everything that runs on threads of its own, at the same time: HTTP, the PD strands, the engine, the compute team, the transfer
worker, probers, metrics. ci/sanitize.sh runs this with a binary built for ThreadSanitizer: a race that it reports makes the exit
status 66, and the status of every process is looked at here."""
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from cluster import GOLDEN, Cluster, Server, http

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
from chaos import ask, request_kinds  # noqa: E402

SECONDS = float(os.environ.get("BATON_THREADS_SECONDS", "6"))
TINY = GOLDEN / "tiny" / "llama"
CONTROL = ["/health", "/metrics", "/v1/models"]


class Load:
    """Clients of every kind. An answer must be right or an error that says so: workers come and go here."""

    def __init__(self, cluster, kinds):
        self.cluster, self.kinds = cluster, kinds
        self.expected = {name: ask(cluster.url, path, body).key() for name, path, body in kinds}
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.right, self.refused, self.wrong = 0, 0, []
        clients = [self.ask_whole] * 4 + [self.hang_up] * 2 + [self.look] * 2
        self.threads = [threading.Thread(target=self.loop, args=(c, i), daemon=True) for i, c in enumerate(clients)]
        for thread in self.threads:
            thread.start()

    def loop(self, client, number):
        rng = random.Random(number)
        while not self.over.is_set():
            try:
                client(rng)
            except (OSError, ValueError, AssertionError, urllib.error.HTTPError) as error:
                text = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else str(error)
                with self.lock:
                    self.refused += 1
                    if isinstance(error, AssertionError) and "error event" not in text and "[DONE]" not in text:
                        self.wrong.append(text[:500])
                self.over.wait(0.02)

    def ask_whole(self, rng):
        name, path, body = rng.choice(self.kinds)
        answer = ask(self.cluster.url, path, body)
        with self.lock:
            if answer.key() == self.expected[name]:
                self.right += 1
            else:
                self.wrong.append(name)

    def hang_up(self, rng):
        _, path, body = rng.choice([k for k in self.kinds if k[2].get("stream")])
        data = json.dumps({**body, "model": "m"}).encode()
        request = urllib.request.Request(self.cluster.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            for _ in range(rng.randint(0, 8)):
                answer.readline()

    def look(self, rng):
        path = rng.choice(CONTROL)
        server = rng.choice(self.cluster.servers)
        http(rng.choice([self.cluster.url, server.url]) + path, timeout=60)
        http(server.url + "/abort_request", {"rid": f"nobody-{rng.randint(0, 9)}"}, 60)
        http(self.cluster.url + "/workers", timeout=60)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        assert not [t for t in self.threads if t.is_alive()], "a client waits for ever"


def end(process, seconds=90):
    """SIGTERM; the exit status within the time."""
    process.popen.send_signal(signal.SIGTERM)
    return process.popen.wait(seconds)


@pytest.mark.parametrize("provider", ["tcp", "shm"])
@pytest.mark.timeout(600)
def test_all_threads_at_once(provider):
    extra = ["--skip-tokenizer-init", "--io-threads", 3, "--drain-timeout", 5]
    with Cluster(2, 2, model=TINY, provider=provider, extra=[*extra, "--threads", 2],
                 router_extra=["--threads", 3, "--prefill-policy", "cache_aware"]) as cluster:
        load = Load(cluster, request_kinds(40))
        try:
            time.sleep(SECONDS / 3)
            cluster.decodes[1].kill()  # in the middle of transfers and streams
            assert end(cluster.prefills[1]) == 0, cluster.prefills[1].tail()  # ... and this one in good order
            time.sleep(SECONDS / 3)
            for server in (cluster.decodes[1], cluster.prefills[1]):
                server.start()
                server.wait()
            time.sleep(SECONDS / 3)
        finally:
            load.stop()
        assert not load.wrong, load.wrong[:5]
        assert load.right > 0, f"{load.refused} refused, none answered"
        for server in cluster.servers:
            server.assert_no_leaks(30)
        # All end under load.
        load = Load(cluster, request_kinds(20)[:4])
        time.sleep(0.5)
        status = {p.name: end(p) for p in [*cluster.servers, cluster.router]}
        load.stop()
        assert not any(status.values()), status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGABRT], ids=["term", "abort"])
def test_death_while_starting(tmp_path, number):
    """By the signal itself: no library runs exit() in its handler, with our threads at work."""
    for attempt in range(20):
        server = Server(f"starting{attempt}", tmp_path, model=TINY, mode="prefill", extra=["--skip-tokenizer-init"])
        limit = time.time() + 60
        while "Load weight end" not in server.log.read_text(errors="replace") and time.time() < limit:
            time.sleep(0.002)
        server.popen.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        ready = "Listening on" in server.log.read_text(errors="replace")
        server.popen.send_signal(number)
        server.popen.send_signal(signal.SIGCONT)
        status = server.popen.wait(30)
        if not ready:
            assert status == -number, (status, server.tail())
            return
    raise AssertionError("the server was always ready at once")
