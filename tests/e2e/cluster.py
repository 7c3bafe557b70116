"""Starts and stops real Baton processes for the end-to-end tests: everything on loopback, free ports."""
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATON = pathlib.Path(os.environ.get("BATON_BINARY", ROOT / "build" / "release" / "baton"))
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct-Q4_1.gguf"
GOLDEN = ROOT / "tests" / "golden"


def free_port():
    """Below the ports that connections leave from: one of those could be taken before it is listened on."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        try:
            with socket.socket() as s:
                s.bind(("", port))
        except OSError:
            continue
        if port not in handed_out:
            handed_out.add(port)
            return port


handed_out = set()


def http(url, body=None, timeout=120, method=None, headers=None):
    """(status, text) of one request; JSON bodies are encoded."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    head = {"Content-Type": "application/json"} if data is not None else {}
    request = urllib.request.Request(url, data, {**head, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def post(url, body, timeout=120):
    status, text = http(url, body, timeout)
    assert status == 200, f"{url}: {status} {text[:500]}"
    return json.loads(text)


class Process:
    """One `baton` process with its log in a file."""

    def __init__(self, name, arguments, log_dir):
        self.name = name
        self.arguments = [str(a) for a in arguments]
        self.log = pathlib.Path(log_dir) / f"{name}.log"
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(self.arguments, stdout=log, stderr=log)

    def wait_http(self, url, path="/health", timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            if self.popen.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")
            try:
                if http(url + path, timeout=2)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready:\n{self.tail()}")

    def tail(self, lines=30):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(8)
            except subprocess.TimeoutExpired:
                self.kill()

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def data_plane(provider):
    """nixl finds its library by BATON_NIXL_PATH; "tcp-read": decode reads instead of being written to."""
    if provider == "nixl":
        return ["--disaggregation-transfer-backend", "nixl"]
    name, _, mode = provider.partition("-")
    return ["--transfer-provider", name, *(["--transfer-write-mode", mode] if mode else [])]


class Server(Process):
    """`baton serve` of any role."""

    def __init__(self, name, log_dir, model=SMOLLM2, mode="null", provider="tcp", extra=(), host="127.0.0.1", port=None):
        self.mode = mode
        self.port, self.bootstrap = port or free_port(), free_port()
        self.url = f"http://{host}:{self.port}"
        super().__init__(name, [BATON, "serve", "--model-path", model, "--served-model-name", "m", "--host", host, "--port", self.port,
                                "--disaggregation-mode", mode, "--disaggregation-bootstrap-port", self.bootstrap,
                                *data_plane(provider), "--threads", 1, "--log-level", "debug",
                                "--kv-memory-mb", 256, *extra], log_dir)

    def wait(self):
        self.wait_http(self.url)

    def metrics(self):
        """Metric name to the sum of its samples."""
        out = {}
        for line in http(self.url + "/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name.split("{")[0]] = out.get(name.split("{")[0], 0) + float(value)
        return out

    def assert_no_leaks(self, timeout=10):
        """Pages, grants and holds all return to their pools once nothing runs."""
        names = ["baton_kv_pages_used", "baton_kv_reservations", "baton_kv_holds", "sglang:num_running_reqs", "sglang:num_queue_reqs"]
        if self.mode != "null":
            names += ["baton_transfer_slots_held", "baton_transfer_sends_live", "baton_transfer_writes_in_flight"]
        if self.mode == "decode":
            names += ["baton_decode_quarantined_reqs", "sglang:num_decode_transfer_queue_reqs"]
        end = time.time() + timeout
        while True:
            metrics = self.metrics()
            held = {n: metrics[n] for n in names if metrics[n]}
            if not held or time.time() > end:
                assert not held, f"{self.name} still holds {held}\n{self.tail()}"
                assert metrics["baton_kv_pages_free"] + metrics["baton_kv_pages_cached"] == metrics["baton_kv_pages_total"]
                return
            time.sleep(0.1)


class Cluster:
    """A router in front of prefill and decode servers; a monolithic server when both counts are 0."""

    def __init__(self, prefill=1, decode=1, model=SMOLLM2, provider="tcp", router="baton", extra=(), router_extra=(),
                 prefill_extra=(), decode_extra=()):
        self.log_dir = tempfile.mkdtemp(prefix="baton-e2e-")
        self.prefills = [Server(f"prefill{i}", self.log_dir, model, "prefill", provider, [*extra, *prefill_extra]) for i in range(prefill)]
        self.decodes = [Server(f"decode{i}", self.log_dir, model, "decode", provider, [*extra, *decode_extra]) for i in range(decode)]
        self.mono = None if prefill else Server("mono", self.log_dir, model, "null", provider, extra)
        self.router = None
        try:
            for server in self.servers:
                server.wait()
            if self.mono:
                self.url = self.mono.url
            else:
                self.start_router(router, router_extra)
        except BaseException:
            self.stop()
            raise

    @property
    def servers(self):
        return self.prefills + self.decodes + ([self.mono] if self.mono else [])

    def start_router(self, kind, extra):
        port, metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        program = [BATON, "router"] if kind == "baton" else [ROOT / ".venv/bin/python", "-m", "sglang_router.launch_router"]
        arguments = [*program, "--pd-disaggregation", "--host", "127.0.0.1", "--port", port, "--prometheus-port", metrics_port,
                     "--policy", "round_robin"]
        for server in self.prefills:
            arguments += ["--prefill", server.url, server.bootstrap]
        for server in self.decodes:
            arguments += ["--decode", server.url]
        if kind != "baton":
            arguments += ["--worker-startup-check-interval", 1]
        self.router = Process("router", [*arguments, *extra], self.log_dir)
        self.router.kind, self.router.metrics_url = kind, f"http://127.0.0.1:{metrics_port}"
        self.router.wait_http(self.url, "/readiness", 90)

    def stop(self):
        for process in [self.router, *self.servers]:
            if process:
                process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
