"""`baton bench serving` against real servers: counts agree with the servers' own, exit codes hold."""
import json
import signal
import subprocess
import time

from cluster import BATON, SMOLLM2, http

EXACT = ["--tokenizer", SMOLLM2, "--ignore-eos", "--warmup-requests", 0, "--quiet"]


def bench(url, *arguments, exit_code=0):
    command = [BATON, "bench", "serving", "--base-url", url, "--model", "m", *arguments]
    done = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done


def report(url, *arguments, exit_code=0):
    return json.loads(bench(url, *arguments, "--json", "-", exit_code=exit_code).stdout)


def test_prompt_lengths_are_exact_by_the_servers_count(mono):
    o = report(mono.url, *EXACT, "--backend", "sglang", "--num-prompts", 6, "--max-concurrency", 3,
               "--input-len", 33, "--output-len", 5)
    assert (o["completed"], o["failed"]) == (6, 0)
    assert o["input_tokens"] == 6 * 33
    assert o["output_tokens"] == 6 * 5
    assert o["token_count_source"] == "usage"
    assert o["ttft_ms"]["count"] == 6
    # Text that grows by no whole character makes no event of its own, so gaps may be fewer than 4.
    assert 0 < o["itl_ms"]["count"] <= 6 * 4


def test_every_api_through_router_and_pair(routed, tmp_path):
    for backend in ("chat", "completions", "generate"):
        o = report(routed.url, *EXACT, "--backend", backend, "--num-prompts", 3, "--max-concurrency", 2, "--input-len",
                   "uniform:10,30", "--output-len", 4, "--html", tmp_path / "report.html")
        assert (o["completed"], o["failed"]) == (3, 0), o["errors"]
        assert o["output_tokens"] == 12
        assert "<svg" in (tmp_path / "report.html").read_text()


def test_shared_prefixes_hit_the_cache(mono):
    o = report(mono.url, *EXACT, "--backend", "generate", "--dataset-name", "generated-shared-prefix", "--gsp-num-groups", 2,
               "--gsp-prompts-per-group", 4, "--gsp-system-prompt-len", 64, "--input-len", 8, "--output-len", 2,
               "--max-concurrency", 1)
    assert o["completed"] == 8
    assert o["cached_tokens"] >= 6 * 48  # the first of each group computes, six others find at least three pages


def test_sweep_and_missed_objective(mono):
    o = report(mono.url, *EXACT, "--num-prompts", 3, "--max-concurrency", "1,2", "--input-len", 8, "--output-len", 3,
               "--slo", "ttft=1us", exit_code=6)
    assert len(o["points"]) == 2
    assert o["slo_met"] is False
    assert o["goodput"]["good"] == 0


def test_wrong_usage_and_no_server(mono):
    bench(mono.url, "--input-len", "often", exit_code=2)
    bench(mono.url, "--backend", "grpc", exit_code=2)
    bench(mono.url, "--dataset-name", "sharegpt", exit_code=2)
    bench("http://127.0.0.1:9", "--num-prompts", 1, exit_code=4)


def test_interrupt_prints_the_report(mono, tmp_path):
    out = tmp_path / "report.json"
    command = [BATON, "bench", "serving", "--base-url", mono.url, "--duration", 100, "--max-concurrency", 2, "--input-len", 8,
               "--output-len", 2000, "--ignore-eos", "--warmup-requests", 0, "--json", out]
    with subprocess.Popen([str(a) for a in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        end = time.time() + 60
        while time.time() < end and "sglang:num_running_reqs" not in http(mono.url + "/metrics")[1]:
            time.sleep(0.1)
        while time.time() < end and mono.mono.metrics().get("sglang:num_running_reqs", 0) < 2:
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 5
    o = json.loads(out.read_text())
    assert o["interrupted"] is True
    assert o["cancelled"] == 2
    mono.mono.assert_no_leaks()
