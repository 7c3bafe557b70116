"""TLS end to end: https servers behind an https router with certificates both ways, seen by clients that are not ours."""
import json
import signal
import socket
import ssl
import subprocess
import time

import openai
import pytest
import requests
from cluster import BATON, ROOT, SMOLLM2, Process, Server, free_port


def openssl(folder, *arguments):
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True, timeout=60)


class Authority:
    """An authority of our own and what it signed, in PEM files."""

    def __init__(self, folder, name="ca"):
        self.folder, self.ca = folder, folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                "-keyout", self.key, "-out", self.ca, "-subj", f"/CN={name}")

    def sign(self, name, hosts="DNS:localhost,IP:127.0.0.1"):
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
        openssl(self.folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\n")
        openssl(self.folder, "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial",
                "-days", 1, "-out", certificate, "-extfile", extensions)
        return certificate, key


class HttpsServer(Server):
    def wait(self):
        end = time.time() + 60
        while "ready to roll" not in self.log.read_text(errors="replace"):
            assert self.popen.poll() is None and time.time() < end, self.tail()
            time.sleep(0.05)


def wait_ready(router, url, ca):
    end = time.time() + 60
    while True:
        try:
            if requests.get(url + "/readiness", verify=ca, timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        assert time.time() < end and router.popen.poll() is None, router.tail()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """router (https) -> prefill, decode (https, client certificates)."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    worker_cert, worker_key = authority.sign("worker")
    router_cert, router_key = authority.sign("router")
    processes = []
    try:
        for mode in ("prefill", "decode"):
            server = HttpsServer(mode, folder, SMOLLM2, mode, extra=[
                "--ssl-certfile", worker_cert, "--ssl-keyfile", worker_key, "--ssl-ca-certs", authority.ca])
            server.url = server.url.replace("http://", "https://")
            processes.append(server)
        for server in processes:
            server.wait()
        port = free_port()
        prefill, decode = processes
        router = Process("router", [
            BATON, "router", "--pd-disaggregation", "--host", "127.0.0.1", "--port", port, "--prometheus-port", -1,
            "--prefill", prefill.url, prefill.bootstrap, "--decode", decode.url, "--tls-cert-path", router_cert,
            "--tls-key-path", router_key, "--client-cert-path", router_cert, "--client-key-path", router_key,
            "--ca-cert-paths", authority.ca, "--log-dir", folder / "logs"], folder)
        processes.append(router)
        router.folder, router.authority, router.workers = folder, authority, (prefill, decode)
        router.port, router.url = port, f"https://localhost:{port}"
        wait_ready(router, router.url, authority.ca)
        yield router
    finally:
        for process in reversed(processes):
            process.stop()


CHAT = {"model": "m", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "temperature": 0}


def test_requests_streams(fleet):
    with requests.Session() as session:
        session.trust_env = False  # or REQUESTS_CA_BUNDLE would win over verify
        session.verify = fleet.authority.ca
        whole = session.post(fleet.url + "/v1/chat/completions", json=CHAT, timeout=60).json()
        with session.post(fleet.url + "/v1/chat/completions", json={**CHAT, "stream": True}, stream=True, timeout=60) as answer:
            assert answer.status_code == 200
            events = [line[6:] for line in answer.iter_lines(decode_unicode=True) if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    text = "".join(json.loads(e)["choices"][0]["delta"].get("content") or "" for e in events[:-1])
    assert text and text == whole["choices"][0]["message"]["content"]


def test_openai_client(fleet):
    import httpx
    context = ssl.create_default_context(cafile=fleet.authority.ca)
    client = openai.OpenAI(base_url=fleet.url + "/v1", api_key="x", http_client=httpx.Client(verify=context))
    pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**CHAT, stream=True) if c.choices]
    assert "".join(pieces)


def test_sglang_router_over_tls(fleet):
    """The real sglang-router with the same certificates in front of the same workers."""
    port = free_port()
    prefill, decode = fleet.workers
    router = Process("sglang", [
        ROOT / ".venv/bin/python", "-m", "sglang_router.launch_router", "--pd-disaggregation", "--host", "127.0.0.1", "--port", port,
        "--prometheus-port", free_port(), "--worker-startup-check-interval", 1, "--prefill", prefill.url, prefill.bootstrap,
        "--decode", decode.url, "--tls-cert-path", fleet.folder / "router.crt", "--tls-key-path", fleet.folder / "router.key",
        "--client-cert-path", fleet.folder / "router.crt", "--client-key-path", fleet.folder / "router.key",
        "--ca-cert-paths", fleet.authority.ca], fleet.folder)
    try:
        wait_ready(router, f"https://localhost:{port}", fleet.authority.ca)
        answers = [requests.post(url + "/v1/chat/completions", json=CHAT, verify=fleet.authority.ca, timeout=60).json()
                   for url in (fleet.url, f"https://localhost:{port}")]
        assert answers[0]["choices"][0]["message"] == answers[1]["choices"][0]["message"]
    finally:
        router.stop()


@pytest.mark.parametrize("version", ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"])
def test_curl(fleet, version):
    answer = subprocess.run(["curl", "-sS", "--cacert", fleet.authority.ca, *version.split(), "-d", json.dumps({"text": "Hi", "sampling_params": {"max_new_tokens": 4}}),
                             "-H", "content-type: application/json", fleet.url + "/generate", "-w", "\n%{http_code} %{ssl_verify_result}"],
                            capture_output=True, text=True, timeout=60)
    assert answer.stdout.endswith("\n200 0"), answer
    old = subprocess.run(["curl", "-sS", "--cacert", fleet.authority.ca, "--tls-max", "1.1", fleet.url + "/health"], capture_output=True, timeout=60)
    assert old.returncode != 0
    plain = subprocess.run(["curl", "-sS", fleet.url.replace("https", "http") + "/health"], capture_output=True, text=True, timeout=60)
    assert "use https://" in plain.stdout


def test_wrong_authority_is_noticed(fleet):
    other = Authority(fleet.folder, "other")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(fleet.url + "/health", verify=other.ca, timeout=10)
    # Workers want the router's certificate, or one of the same authority.
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(fleet.workers[0].url + "/health", verify=fleet.authority.ca, timeout=10)
    assert requests.get(fleet.workers[0].url + "/health", verify=fleet.authority.ca, timeout=30,
                        cert=(fleet.folder / "router.crt", fleet.folder / "router.key")).status_code == 200


def test_router_tells_why_a_worker_is_refused(fleet):
    folder = fleet.folder
    for name, arguments, reason in [
            ("unknown", ["--ca-cert-paths", Authority(folder, "stranger").ca], "signed by an unknown authority"),
            ("nocert", ["--ca-cert-paths", fleet.authority.ca], "wants a client certificate and got none")]:
        router = Process(name, [BATON, "router", "--host", "127.0.0.1", "--port", free_port(), "--prometheus-port", -1,
                                "--worker-urls", fleet.workers[0].url, *arguments], folder)
        end = time.time() + 20
        while reason not in router.log.read_text() and time.time() < end:
            time.sleep(0.05)
        router.stop()
        assert reason in router.log.read_text() and fleet.workers[0].url in router.log.read_text()


def test_bad_files_end_the_start(fleet):
    folder = fleet.folder
    for command in (["router", "--tls-cert-path", folder / "router.crt", "--tls-key-path", folder / "worker.key"],
                    ["serve", "--model-path", SMOLLM2, "--ssl-certfile", folder / "router.crt", "--ssl-keyfile", folder / "worker.key"]):
        ended = subprocess.run([BATON, *command], capture_output=True, text=True, timeout=30)
        assert ended.returncode != 0 and "does not belong to the certificate" in ended.stderr, ended.stderr


def serial(port, ca):
    context = ssl.create_default_context(cafile=ca)
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        return tls.getpeercert()["serialNumber"]


def test_renewed_certificate_under_a_stream(fleet):
    before = serial(fleet.port, fleet.authority.ca)
    body = {**CHAT, "stream": True, "max_tokens": 200, "ignore_eos": True}
    with requests.post(fleet.url + "/v1/chat/completions", json=body, stream=True, verify=fleet.authority.ca, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        fleet.authority.sign("router")
        rest = list(lines)
    assert rest[-2] == b"data: [DONE]" or rest[-1] == b"data: [DONE]"
    end = time.time() + 30
    while serial(fleet.port, fleet.authority.ca) == before:
        assert time.time() < end
        time.sleep(0.2)


def test_access_log(fleet):
    log = fleet.folder / "logs" / "access.log"
    requests.post(fleet.url + "/generate", json={"text": "x", "sampling_params": {"max_new_tokens": 2}}, verify=fleet.authority.ca,
                  headers={"x-request-id": "seen"}, timeout=60)

    def line_of(request_id):
        end = time.time() + 10
        while time.time() < end:
            for line in map(json.loads, log.read_text().splitlines() if log.exists() else []):
                if line["request_id"] == request_id:
                    return line
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    line = line_of("seen")
    assert line["status"] == 200 and line["attempts"] == 1 and line["prefill"] == fleet.workers[0].url and line["decode"] == fleet.workers[1].url
    assert (fleet.folder / "logs" / "smg.log").stat().st_size > 0
    log.rename(fleet.folder / "logs" / "moved.log")
    fleet.popen.send_signal(signal.SIGUSR1)
    end = time.time() + 10
    while not log.exists() and time.time() < end:
        time.sleep(0.05)
    requests.get(fleet.url + "/workers", verify=fleet.authority.ca, headers={"x-request-id": "later"}, timeout=60)
    assert line_of("later")["path"] == "/workers"
