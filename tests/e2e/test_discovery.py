"""`baton router` finds its workers: pods of a (fake) Kubernetes API server, a workers file, a config file and SIGHUP."""
import http.server
import json
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from cluster import BATON, Process, free_port, http as fetch
from fake_kube import FakeKube

PATIENCE = 30


class MockWorker:
    """Answers health checks and /generate, and remembers the bodies."""

    def __init__(self):
        worker = self
        self.bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, body):
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.answer({})

            def do_POST(self):
                worker.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({"text": "hello"})

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Router(Process):
    def __init__(self, log_dir, *flags):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__("router", [BATON, "router", "--host", "127.0.0.1", "--port", self.port, "--prometheus-port", -1, *flags], log_dir)
        self.wait_http(self.url, "/liveness")

    def workers(self):
        listed = json.loads(fetch(self.url + "/workers")[1])["workers"]
        return sorted(w["worker_type"] + " " + w["url"] + (" draining" if w.get("draining") else "") for w in listed)

    def become(self, *workers):
        end = time.time() + PATIENCE
        while self.workers() != sorted(workers) and time.time() < end:
            time.sleep(0.02)
        assert self.workers() == sorted(workers), self.tail()

    def wait_log(self, text):
        end = time.time() + PATIENCE
        while text not in self.log.read_text() and time.time() < end:
            time.sleep(0.02)
        assert text in self.log.read_text()


@pytest.fixture
def workers():
    made = [MockWorker() for _ in range(3)]
    yield made
    for worker in made:
        worker.close()


@pytest.fixture
def run(tmp_path):
    started = []

    def start(*flags):
        started.append(Router(tmp_path, *flags))
        return started[-1]

    yield start
    for router in started:
        router.stop()


def test_kubernetes(tmp_path, workers, run):
    kube = FakeKube()
    token = tmp_path / "token"
    token.write_text("t0\n")
    try:
        kube.put("a", "prefill", workers[0].port)
        kube.put("b", "decode", workers[1].port)
        router = run("--pd-disaggregation", "--service-discovery", "--prefill-selector", "role=prefill", "--decode-selector",
                     "role=decode", "--service-discovery-namespace", "llm", "--kube-api", kube.url, "--kube-token-file", token)
        p, d, d2 = f"prefill {workers[0].url}", f"decode {workers[1].url}", f"decode {workers[2].url}"
        router.become(p, d)
        router.wait_http(router.url, "/readiness")
        assert fetch(router.url + "/generate", {"text": "x"})[0] == 200
        assert workers[0].bodies[0]["bootstrap_port"] == 8998
        kube.put("c", "decode", workers[2].port)
        router.become(p, d, d2)
        # A rolling update: one pod goes while a watch breaks inside a line and the token is renewed.
        kube.put("b", "decode", workers[1].port, deleting=True)
        router.become(p, d + " draining", d2)
        token.write_text("t1\n")
        kube.token = "t1"
        kube.break_watches(half_line=True)
        kube.delete("b")
        router.become(p, d2)
        # History lost, and a deletion in it.
        kube.delete("c")
        kube.break_watches(compact=True)
        kube.put("b2", "decode", workers[1].port)
        router.become(p, d)
        assert fetch(router.url + "/generate", {"text": "x"})[0] == 200
        assert kube.lists >= 2 and kube.watches >= 3
    finally:
        kube.close()


def test_kubernetes_refusal_names_the_rule(tmp_path, run):
    kube = FakeKube(token="other")
    try:
        router = run("--service-discovery", "--selector", "app=x", "--kube-api", kube.url)
        router.wait_log("does not know our token (401: Unauthorized); give --kube-token-file")
        status, text = fetch(router.url + "/readiness")
        assert status == 503 and "waiting for discovery" in text
        (tmp_path / "token").write_text("other")
        router = run("--service-discovery", "--selector", "app=x", "--kube-api", kube.url, "--kube-token-file", tmp_path / "token")
        router.wait_log('bind the service account to a ClusterRole with the rule apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"]')
    finally:
        kube.close()


def listing(*workers):
    return json.dumps([{"url": w.url, "worker_type": role, **extra} for w, role, extra in workers])


def test_workers_file_and_config_file(tmp_path, workers, run):
    a, b, c = workers
    file, config = tmp_path / "workers.json", tmp_path / "router.yaml"
    file.write_text(listing((a, "prefill", {"bootstrap_port": 7000})))
    config.write_text(f"""# a router
pd_disaggregation: true
decode: {b.url}
workers-file: {file}
policy: round_robin
log-level: warning
""")
    router = run("--config", config)
    router.become(f"prefill {a.url}", f"decode {b.url}")
    router.wait_http(router.url, "/readiness")
    assert fetch(router.url + "/generate", {"text": "x"})[0] == 200
    end = time.time() + 10  # decode's answer may be here before prefill has the request
    while not a.bodies and time.time() < end:
        time.sleep(0.01)
    assert a.bodies[0]["bootstrap_port"] == 7000
    # The file by itself; broken, it changes nothing.
    file.write_text("[{,")
    router.wait_log("workers.json line 1, column 3: invalid JSON")
    file.write_text(listing((a, "prefill", {}), (c, "decode", {})))
    router.become(f"prefill {a.url}", f"decode {b.url}", f"decode {c.url}")
    # SIGHUP: workers and log level; the rest is told.
    config.write_text(config.read_text().replace(f"decode: {b.url}\n", "").replace("warning", "info").replace("round_robin", "random"))
    router.popen.send_signal(signal.SIGHUP)
    router.become(f"prefill {a.url}", f"decode {c.url}")
    router.wait_log("policy has changed; it takes effect when the router starts anew")
    router.wait_log("SIGHUP: read anew")
    config.write_text("wokers-file: x\n")
    router.popen.send_signal(signal.SIGHUP)
    router.wait_log('line 1: unknown key "wokers-file"; did you mean workers-file?')
    router.become(f"prefill {a.url}", f"decode {c.url}")


def test_bad_flags_and_files(tmp_path):
    config = tmp_path / "c.yaml"

    def refuse(text, *flags):
        done = subprocess.run([BATON, "router", *map(str, flags)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and text in done.stderr, done.stderr

    config.write_text("prot: 1\n")
    refuse('line 1: unknown key "prot"; did you mean port?', "--config", config)
    config.write_text("port: many\n")
    refuse("--port", "--config", config)
    config.write_text("port\n")
    refuse('line 1: expected "key: value"', "--config", config)
    refuse("cannot read", "--config", tmp_path / "none.yaml")
    refuse("cannot read", "--workers-file", tmp_path / "none.json", "--port", "0", "--prometheus-port", "-1")
    refuse("--service-discovery needs --selector", "--service-discovery")
    refuse("need --service-discovery", "--selector", "a=b")
    refuse('--selector: "a" is not KEY=VALUE', "--service-discovery", "--selector", "a")
    refuse("this is no pod of a cluster", "--service-discovery", "--selector", "a=b", "--port", "0", "--prometheus-port", "-1")
    refuse("--prefill-dns and --decode-dns need --pd-disaggregation", "--prefill-dns", "a:1")
    refuse("expected NAME:PORT", "--worker-dns", "a")


def test_the_command_line_wins(tmp_path, workers, run):
    config = pathlib.Path(tmp_path / "c.yaml")
    config.write_text(f"worker-urls: [{workers[0].url}, {workers[1].url}]\nport: 1\nmax-concurrent-requests: 3\n")
    router = run("--config", config)
    router.become(f"regular {workers[0].url}", f"regular {workers[1].url}")
    other = run("--config", config, "--worker-urls", workers[2].url)
    other.become(f"regular {workers[2].url}")
    other.popen.send_signal(signal.SIGHUP)
    other.wait_log("SIGHUP: read anew")
    other.become(f"regular {workers[2].url}")
