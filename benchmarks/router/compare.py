#!/usr/bin/env python3
"""Two routers on one machine, in turns (A B A B ...), in front of the same mock workers: CPU per request, requests
per second and latency of each, and their ratios.

    pip install sglang-router==0.3.2    # into an environment of its own
    apt-get install nginx-light wrk
    benchmarks/router/compare.py --sglang-router VENV/bin/sglang-router --body 2k --policy cache_aware --rounds 5

Prefill and decode are one nginx that answers at once (workers.conf); wrk sends chats that all begin differently
(chat.lua). Ratios are those of the two runs of one round; the median and the range over the rounds are printed.
CPU is user + system time of the router's processes. Without --sglang-router only Baton is measured.

    benchmarks/router/compare.py --tls server               # wrk -> router over https
    benchmarks/router/compare.py --tls workers              # router -> workers over https, both show certificates
    benchmarks/router/compare.py --tls server --new-connections resumed     # a handshake for each request

With --tls a second Baton without TLS runs in the same rounds, and the ratio to it is the cost of TLS. Certificates
(P-256, made by openssl) last for one run. --new-connections: every request opens a connection. `resumed` is what wrk
does by itself with TLS 1.3; `full` holds it to TLS 1.2 without tickets, because wrk can be kept from resuming in no
other way.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def process(command, log):
    with open(log, "wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def make_certificates(folder):
    """ca, server and client, each as NAME.crt and NAME.key."""
    def openssl(*command):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=compare.py",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    for name in ("server", "client"):
        (folder / "extensions").write_text("basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n"
                                           f"extendedKeyUsage={name}Auth\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "extensions", "-out", f"{name}.crt")


def wait_for(url, child, log, seconds=60):
    # Who answers is not what is measured.
    trust = ssl._create_unverified_context() if url.startswith("https") else None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=2, context=trust).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"compare: {url} did not come up; the end of its log:\n{log.read_text(errors='replace')[-2000:]}")


def cpu_seconds(pid):
    """User + system time of a process and its children."""
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += cpu_seconds(int(child))
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return total + (int(fields[11]) + int(fields[12])) / ticks


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def run_wrk(router, args, seconds):
    command = ["wrk", "-t1", f"-c{args.connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s",
               str(HERE / "chat.lua"), router["url"], "--", str(args.bytes)]
    if args.new_connections:
        command.append("close")
    environment = dict(os.environ)
    if args.new_connections == "full":
        environment["OPENSSL_CONF"] = str(HERE / "no_resumption.cnf")
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", out)
    if bad:
        sys.exit(f"compare: the router at {router['url']} failed requests: {bad.group(0)}")
    latency = {p: milliseconds(re.search(rf"^ +{p}%\s+(\S+)$", out, re.M).group(1)) for p in (50, 99)}
    return {"requests": int(re.search(r"(\d+) requests in", out).group(1)),
            "req_s": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50_ms": latency[50], "p99_ms": latency[99]}


def measure(router, args, seconds):
    before = cpu_seconds(router["pid"])
    row = run_wrk(router, args, seconds)
    row["cpu_us"] = (cpu_seconds(router["pid"]) - before) * 1e6 / row["requests"]
    return row


def show(name, row):
    print(f"{name:11} cpu {row['cpu_us']:7.1f} us/request  {row['req_s']:8.0f} req/s  p50 {row['p50_ms']:7.2f} ms  "
          f"p99 {row['p99_ms']:7.2f} ms", flush=True)


def start_workers(args, folder, stack):
    """The URLs of prefill and decode, without and (None unless asked for) with TLS."""
    ports = free_ports(4)
    tls = ""
    if args.tls in ("workers", "both"):
        tls = "".join(f"listen 127.0.0.1:{port} ssl backlog=1024; " for port in ports[2:])
        tls += (f"ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key; "
                f"ssl_client_certificate {folder}/ca.crt; ssl_verify_client on;")
    config = (HERE / "workers.conf").read_text()
    for mark, value in (("FOLDER", folder), ("PREFILL", ports[0]), ("DECODE", ports[1]), ("TLS", tls)):
        config = config.replace(f"@{mark}@", str(value))
    (folder / "workers.conf").write_text(config)
    log = folder / "nginx.log"
    nginx = stack.enter_context(process(["nginx", "-e", str(folder / "nginx.err"), "-c", str(folder / "workers.conf")], log))
    plain = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    for url in plain:
        wait_for(f"{url}/health", nginx, log)
    return plain, [f"https://127.0.0.1:{port}" for port in ports[2:]] if tls else None


def router_arguments(args, folder, workers, tls):
    """What both routers are given; `tls`: where there is TLS, as --tls has it, or None."""
    plain, secured = workers
    prefill, decode = secured if tls in ("workers", "both") else plain
    command = ["--pd-disaggregation", "--prefill", prefill, "none", "--decode", decode, "--policy", args.policy, "--host", "127.0.0.1",
               "--log-level", "error"]
    if tls in ("server", "both"):
        command += ["--tls-cert-path", f"{folder}/server.crt", "--tls-key-path", f"{folder}/server.key"]
    if tls in ("workers", "both"):
        command += ["--ca-cert-paths", f"{folder}/ca.crt", "--client-cert-path", f"{folder}/client.crt",
                    "--client-key-path", f"{folder}/client.key"]
    return command


def start_routers(args, folder, workers, stack):
    """Name, URL and pid of each router, all of them up."""
    kinds = {"baton": (args.baton, "router", args.tls)}
    if args.sglang_router:
        kinds = {"sglang": (args.sglang_router, "launch", args.tls), **kinds}
    if args.before:
        kinds["before"] = (args.before, "router", args.tls)
    if args.tls:
        kinds["baton plain"] = (args.baton, "router", None)
    routers = {}
    for name, (program, verb, tls) in kinds.items():
        port, metrics_port = free_ports(2)
        command = [program, verb, *router_arguments(args, folder, workers, tls), "--port", str(port),
                   "--prometheus-port", str(metrics_port)]
        if verb == "router":
            command += ["--threads", str(args.threads)]
        log = folder / f"{name}.log"
        child = stack.enter_context(process(command, log))
        url = f"{'https' if tls in ('server', 'both') else 'http'}://127.0.0.1:{port}"
        wait_for(f"{url}/readiness", child, log)
        routers[name] = {"url": url, "pid": child.pid}
    return routers


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baton", default=str(ROOT / "build/release/baton"))
    parser.add_argument("--sglang-router", help="the command of that name of sglang-router 0.3.2")
    parser.add_argument("--before", metavar="BATON", help="an earlier build, to be measured in the same rounds")
    parser.add_argument("--body", default="2k", help="bytes of a request: 2k, 100k or a number")
    parser.add_argument("--policy", default="cache_aware")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="I/O threads of Baton")
    parser.add_argument("--tls", choices=("server", "workers", "both"),
                        help="https from wrk to the router, from the router to its workers (mutual), or both")
    parser.add_argument("--new-connections", choices=("resumed", "full"),
                        help="every request opens a connection, and resumes its TLS session or does not")
    parser.add_argument("--json", help="write all rows there")
    args = parser.parse_args()
    size = re.fullmatch(r"(\d+)(k?)", args.body)
    if not size:
        parser.error("--body wants bytes: 2k, 100k or a number")
    args.bytes = int(size.group(1)) * (1000 if size.group(2) else 1)
    if args.bytes < 200:
        parser.error("--body must be at least 200 bytes")
    return args


def compare(rows, name, other):
    for key, label in (("cpu_us", "CPU per request"), ("req_s", "requests/s"), ("p50_ms", "p50"), ("p99_ms", "p99")):
        ratios = [ours[key] / theirs[key] for ours, theirs in zip(rows[name], rows[other])]
        print(f"{name} / {other}, {label:16} {statistics.median(ratios):5.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


def main():
    args = parse_arguments()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.tls:
            make_certificates(folder)
        workers = start_workers(args, folder, stack)
        routers = start_routers(args, folder, workers, stack)
        print(f"{args.bytes} bytes, {args.policy}, {args.connections} connections, {args.seconds} s a run, "
              f"TLS: {args.tls or 'none'}, new connections: {args.new_connections or 'no'}, "
              f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        rows = {name: [] for name in routers}
        for router in routers.values():
            run_wrk(router, args, 2)
        for _ in range(args.rounds):
            for name, router in routers.items():
                rows[name].append(measure(router, args, args.seconds))
                show(name, rows[name][-1])
    print(f"median over {args.rounds} rounds (load {os.getloadavg()[0]:.1f})")
    for name, runs in rows.items():
        show(name, {key: statistics.median(run[key] for run in runs) for key in runs[0]})
    for other in rows:
        if other != "baton":
            compare(rows, "baton", other)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"args": vars(args), "rows": rows}, indent=1))


main()
