"""What `--help` and `--version` say."""
import re
import subprocess

import pytest

from cluster import BATON

COMMANDS = ["", "up", "serve", "router", "chat", "bench", "bench engine", "bench serving", "bench transfer", "render-chat"]


def run(*arguments):
    done = subprocess.run([BATON, *arguments], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_no_error(command, flag):
    code, out, err = run(*command.split(), flag)
    assert code == 0 and err == ""
    assert re.search(r"usage:|Usage:", out) and f"baton {command}".strip() in out


def test_top_lists_every_command():
    out = run("--help")[1]
    for command in COMMANDS:
        assert f"  {command.split(' ')[0]}" in out


@pytest.mark.parametrize("command, flags", {
    "up": ["--model-path", "--prefill", "--decode", "--port", "--transfer-provider", "--ask", "--once"],
    "serve": ["--model-path", "--disaggregation-mode", "--max-total-payload-size", "--api-key", "--ssl-certfile", "--config"],
    "router": ["--prefill", "--decode", "--policy", "--max-payload-size", "--max-total-payload-size", "--cors-allowed-origins", "--api-key"],
    "chat": ["--url", "--system", "--once"],
    "render-chat": ["--chat-template", "--model-path", "--now"],
}.items())
def test_flags_are_listed(command, flags):
    out = run(command, "--help")[1]
    for flag in flags:
        assert re.search(rf"^ +{flag}\b", out, re.M), flag


def test_version():
    outputs = {run(word) for word in ("version", "--version")}
    assert len(outputs) == 1
    code, out, err = outputs.pop()
    assert code == 0 and err == "" and re.fullmatch(r"baton \d+\.\d+\.\d+\n", out)
