#!/usr/bin/env python3
"""Two routers on one machine, in turns (A B A B ...), in front of the same mock workers: CPU per request, requests
per second and latency of each, and their ratios.

    pip install sglang-router==0.3.2    # into an environment of its own
    apt-get install nginx-light wrk
    benchmarks/router/compare.py --sglang-router VENV/bin/sglang-router --body 2k --policy cache_aware --rounds 5

Prefill and decode are one nginx that answers at once (workers.conf); wrk sends chats that all begin differently
(chat.lua). Ratios are those of the two runs of one round; the median and the range over the rounds are printed.
CPU is user + system time of the router's processes. Without --sglang-router only Baton is measured.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import socket
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


def wait_for(url, child, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=2).read()
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


def run_wrk(port, args, seconds):
    command = ["wrk", "-t1", f"-c{args.connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s",
               str(HERE / "chat.lua"), f"http://127.0.0.1:{port}", "--", str(args.bytes)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", out)
    if bad:
        sys.exit(f"compare: the router on port {port} failed requests: {bad.group(0)}")
    latency = {p: milliseconds(re.search(rf"^ +{p}%\s+(\S+)$", out, re.M).group(1)) for p in (50, 99)}
    return {"requests": int(re.search(r"(\d+) requests in", out).group(1)),
            "req_s": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50_ms": latency[50], "p99_ms": latency[99]}


def measure(router, args, seconds):
    before = cpu_seconds(router["pid"])
    row = run_wrk(router["port"], args, seconds)
    row["cpu_us"] = (cpu_seconds(router["pid"]) - before) * 1e6 / row["requests"]
    return row


def show(name, row):
    print(f"{name:8} cpu {row['cpu_us']:7.1f} us/request  {row['req_s']:8.0f} req/s  p50 {row['p50_ms']:7.2f} ms  "
          f"p99 {row['p99_ms']:7.2f} ms", flush=True)


def start_routers(args, prefill, decode, folder, stack):
    """Name, port and pid of each router, all of them up."""
    ports = free_ports(4)
    workers = ["--pd-disaggregation", "--prefill", f"http://127.0.0.1:{prefill}", "none", "--decode",
               f"http://127.0.0.1:{decode}", "--policy", args.policy, "--host", "127.0.0.1"]
    commands = {"baton": [args.baton, "router", *workers, "--threads", str(args.threads), "--log-level", "error",
                          "--port", str(ports[0]), "--prometheus-port", str(ports[1])]}
    if args.sglang_router:
        commands = {"sglang": [args.sglang_router, "launch", *workers, "--log-level", "error", "--port", str(ports[2]),
                               "--prometheus-port", str(ports[3])], **commands}
    routers = {}
    for name, command in commands.items():
        log = folder / f"{name}.log"
        child = stack.enter_context(process(command, log))
        port = int(command[command.index("--port") + 1])
        wait_for(f"http://127.0.0.1:{port}/readiness", child, log)
        routers[name] = {"port": port, "pid": child.pid}
    return routers


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baton", default=str(ROOT / "build/release/baton"))
    parser.add_argument("--sglang-router", help="the command of that name of sglang-router 0.3.2")
    parser.add_argument("--body", default="2k", help="bytes of a request: 2k, 100k or a number")
    parser.add_argument("--policy", default="cache_aware")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="I/O threads of Baton")
    parser.add_argument("--json", help="write all rows there")
    args = parser.parse_args()
    size = re.fullmatch(r"(\d+)(k?)", args.body)
    if not size:
        parser.error("--body wants bytes: 2k, 100k or a number")
    args.bytes = int(size.group(1)) * (1000 if size.group(2) else 1)
    if args.bytes < 200:
        parser.error("--body must be at least 200 bytes")
    return args


def main():
    args = parse_arguments()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prefill, decode = free_ports(2)
        config = (HERE / "workers.conf").read_text()
        for mark, value in (("FOLDER", folder), ("PREFILL", prefill), ("DECODE", decode)):
            config = config.replace(f"@{mark}@", str(value))
        (folder / "workers.conf").write_text(config)
        log = folder / "nginx.log"
        nginx = stack.enter_context(process(["nginx", "-e", str(folder / "nginx.err"), "-c", str(folder / "workers.conf")], log))
        for port in (prefill, decode):
            wait_for(f"http://127.0.0.1:{port}/health", nginx, log)
        routers = start_routers(args, prefill, decode, folder, stack)
        print(f"{args.bytes} bytes, {args.policy}, {args.connections} connections, {args.seconds} s a run, "
              f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        rows = {name: [] for name in routers}
        for router in routers.values():
            run_wrk(router["port"], args, 2)
        for _ in range(args.rounds):
            for name, router in routers.items():
                rows[name].append(measure(router, args, args.seconds))
                show(name, rows[name][-1])
    print(f"median over {args.rounds} rounds (load {os.getloadavg()[0]:.1f})")
    for name, runs in rows.items():
        show(name, {key: statistics.median(run[key] for run in runs) for key in runs[0]})
    if len(rows) == 2:
        for key, label in (("cpu_us", "CPU per request"), ("req_s", "requests/s"), ("p50_ms", "p50"), ("p99_ms", "p99")):
            ratios = [ours[key] / theirs[key] for ours, theirs in zip(rows["baton"], rows["sglang"])]
            print(f"baton / sglang-router, {label:16} {statistics.median(ratios):5.2f}x "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"args": vars(args), "rows": rows}, indent=1))


main()
