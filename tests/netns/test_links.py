"""Links that fail under running transfers: two network namespaces joined by a veth pair, `baton bench transfer` over
tcp between them. Needs root and `ip`; skipped elsewhere.

    python -m pytest tests/netns
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATON = pathlib.Path(os.environ.get("BATON_BINARY", ROOT / "build" / "release" / "baton"))
PORT = 7411


def run(*words, check=True):
    return subprocess.run([str(w) for w in words], check=check, capture_output=True, text=True)


class Net:
    """Two namespaces, one wire."""

    def __init__(self):
        tag = f"bt{os.getpid() % 100000}"
        self.a, self.b = tag + "a", tag + "b"
        self.address = "10.213.7.2"
        try:
            for name in (self.a, self.b):
                run("ip", "netns", "add", name)
            run("ip", "link", "add", "va", "netns", self.a, "type", "veth", "peer", "name", "vb", "netns", self.b)
            for name, device, address in ((self.a, "va", "10.213.7.1"), (self.b, "vb", self.address)):
                run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
                run("ip", "-n", name, "link", "set", device, "up")
                run("ip", "-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def link(self, state):
        run("ip", "-n", self.a, "link", "set", "va", state)

    def shape(self, *words):
        return run("tc", "-n", self.a, "qdisc", "replace", "dev", "va", "root", *words, check=False)

    def start(self, where, *words):
        return subprocess.Popen(["ip", "netns", "exec", where, str(BATON), "bench", "transfer", "--provider", "tcp",
                                 *[str(w) for w in words]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def close(self):
        for name in (self.a, self.b):
            run("ip", "netns", "del", name, check=False)


@pytest.fixture
def net():
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        made = Net()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces with veth are not permitted here: {error.stderr.strip()}")
    yield made
    made.close()


def start_pair(net, *options, timeout=20):
    target = net.start(net.b, "--listen", f"{net.address}:{PORT}", "--timeout", timeout)
    writer = net.start(net.a, "--connect", f"{net.address}:{PORT}", "--timeout", timeout, "--json", *options)
    return target, writer


def finish(process, seconds):
    """(exit code, stdout, stderr); a process that does not end by itself in time is a hang."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"hung for {seconds} s: {process.args}")
    return process.returncode, out, err


def assert_whole(target, writer, seconds=60):
    code, out, err = finish(writer, seconds)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["wrong"] == 0  # warnings come before it
    assert finish(target, 10)[0] == 0


LONG = ("--block-kib", 16, "--total-mib", 32, "--rounds", 60, "--latency-samples", 0)


@pytest.mark.timeout(120)
def test_short_drops_lose_nothing(net):
    target, writer = start_pair(net, *LONG)
    for _ in range(3):
        time.sleep(0.7)
        net.link("down")
        time.sleep(0.2)
        net.link("up")
    assert_whole(target, writer)


@pytest.mark.timeout(120)
def test_a_slow_link_loses_nothing(net):
    shaped = net.shape("tbf", "rate", "400mbit", "burst", "64kbit", "latency", "20ms")  # short queue: packets are dropped
    if shaped.returncode:
        pytest.skip(f"tc tbf is not there: {shaped.stderr.strip()}")
    target, writer = start_pair(net, "--block-kib", 16, "--total-mib", 8, "--rounds", 3, "--latency-samples", 20)
    assert_whole(target, writer)


@pytest.mark.timeout(120)
def test_delay_loses_nothing(net):
    shaped = net.shape("netem", "delay", "5ms", "3ms", "reorder", "25%")
    if shaped.returncode:
        pytest.skip(f"tc netem is not there: {shaped.stderr.strip()}")
    target, writer = start_pair(net, "--block-kib", 64, "--total-mib", 8, "--rounds", 2, "--latency-samples", 10)
    assert_whole(target, writer)


@pytest.mark.timeout(120)
def test_a_dead_link_ends_both_ends_with_an_error(net):
    target, writer = start_pair(net, *LONG, timeout=6)
    time.sleep(1.5)
    net.link("down")
    start = time.time()
    code, _, err = finish(writer, 20)
    assert code != 0 and "baton bench transfer:" in err
    assert time.time() - start < 15
    code, _, err = finish(target, 20)
    assert code != 0 and "in time" in err, err


@pytest.mark.timeout(120)
def test_a_half_open_connection_is_noticed(net):
    target, writer = start_pair(net, *LONG, timeout=6)
    time.sleep(1.5)
    net.link("down")  # the reset of the killed process never arrives
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    code, _, err = finish(target, 20)
    assert code != 0 and "in time" in err, err


class Rails(Net):
    """Two namespaces, several wires, each a subnet of its own; one more for the control connection of the benchmark."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        try:
            for i in range(count):
                run("ip", "link", "add", f"ra{i}", "netns", self.a, "type", "veth", "peer", "name", f"rb{i}", "netns", self.b)
                for name, device, host in ((self.a, f"ra{i}", 1), (self.b, f"rb{i}", 2)):
                    run("ip", "-n", name, "addr", "add", f"10.213.{20 + i}.{host}/24", "dev", device)
                    run("ip", "-n", name, "link", "set", device, "up")
        except BaseException:
            self.close()
            raise

    def rail(self, i, state, end="a"):
        run("ip", "-n", self.a if end == "a" else self.b, "link", "set", f"r{end}{i}", state)

    def received(self, i):
        stats = json.loads(run("ip", "-n", self.b, "-j", "-s", "link", "show", f"rb{i}").stdout)
        return stats[0]["stats64"]["rx"]["bytes"]

    def names(self, end):
        return ",".join(f"r{end}{i}" for i in range(self.count))


@pytest.fixture
def rails(request):
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        made = Rails(request.param)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces with veth are not permitted here: {error.stderr.strip()}")
    yield made
    made.close()


MOCK_CUDA = BATON.parent / "cuda_mock" / "libcuda.so"


def start_rails(net, *options, timeout=30):
    target = net.start(net.b, "--listen", f"{net.address}:{PORT}", "--timeout", timeout, "--transfer-rails", net.names("b"))
    writer = net.start(net.a, "--connect", f"{net.address}:{PORT}", "--timeout", timeout, "--json",
                       "--transfer-rails", net.names("a"), *options)
    return target, writer


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rails", [2, 3], indirect=True)
def test_one_rail_after_the_other_may_go_and_come_back(rails):
    target, writer = start_rails(rails, *LONG[:5], 200, *LONG[6:])
    time.sleep(1.5)
    for turn in range(2 * rails.count):
        i = turn % rails.count
        rails.rail(i, "down", "ab"[turn // rails.count % 2])
        time.sleep(1.5)
        if writer.poll() is not None:
            break
        rails.rail(i, "up", "ab"[turn // rails.count % 2])
        # It is used again within seconds.
        before, until = rails.received(i), time.time() + 15
        while writer.poll() is None and rails.received(i) < before + (4 << 20):
            assert time.time() < until, f"rail {i} is not used again"
            time.sleep(0.1)
    assert turn >= rails.count - 1, "the transfer was over before each rail had failed"
    assert_whole(target, writer, 150)


# Memory of devices goes through host memory, above the rails; the stand-in for CUDA's driver plays the devices.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("rails", [2], indirect=True)
def test_device_memory_survives_one_rail_after_the_other(rails, monkeypatch):
    if not MOCK_CUDA.exists():
        pytest.skip(f"{MOCK_CUDA} is not built: make build")
    monkeypatch.setenv("BATON_CUDA_LIBRARY", str(MOCK_CUDA))
    target, writer = start_rails(rails, *LONG, "--local-memory", "cuda:0", "--remote-memory", "cuda:1")
    for turn in range(4):
        time.sleep(1)
        assert writer.poll() is None or turn > 1, "the transfer was over before each rail had failed"
        rails.rail(turn % 2, "down", "ab"[turn // 2])
        time.sleep(1)
        rails.rail(turn % 2, "up", "ab"[turn // 2])
    assert_whole(target, writer, 150)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rails", [2], indirect=True)
def test_a_rail_that_dies_for_good_costs_only_its_share(rails):
    target, writer = start_rails(rails, *LONG)
    time.sleep(1)
    rails.rail(1, "down")
    assert_whole(target, writer)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rails", [2], indirect=True)
def test_losing_all_rails_ends_both_ends_with_an_error(rails):
    target, writer = start_rails(rails, *LONG, timeout=8)
    time.sleep(1.5)
    for i in range(rails.count):
        rails.rail(i, "down")
    code, _, err = finish(writer, 30)
    assert code != 0 and "baton bench transfer:" in err
    finish(target, 30)  # with an error of its own, or because the writer left
