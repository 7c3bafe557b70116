"""`baton render-chat` prints what a model would read. (Unit tests compare templates with Jinja2.)"""
import json
import subprocess

import pytest

from cluster import BATON, SMOLLM2, post


def render(tmp_path, arguments, request):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    done = subprocess.run([BATON, "render-chat", *map(str, arguments), file], capture_output=True, timeout=30)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_model_template(tmp_path):
    code, text, _ = render(tmp_path, ["--model-path", SMOLLM2], {"messages": [{"role": "user", "content": "What is 2+2?"}]})
    assert code == 0
    assert text == ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
                    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n")


def test_a_chat_through_a_router_reads_the_same(tmp_path, routed):
    chat = {"messages": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Hauptstadt von Österreich? 🎉"},
                         {"role": "assistant", "content": "Wien"}, {"role": "user", "content": "And of Norway?"}]}
    code, text, _ = render(tmp_path, ["--model-path", SMOLLM2], chat)
    assert code == 0
    answer = post(routed.url + "/v1/chat/completions", {**chat, "model": "m", "temperature": 0, "max_tokens": 12})
    whole = post(routed.url + "/v1/completions", {"prompt": text, "model": "m", "temperature": 0, "max_tokens": 12})
    assert answer["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert answer["choices"][0]["message"]["content"] == whole["choices"][0]["text"]


PARTS = {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "2+2?"}]}]}


@pytest.mark.parametrize("template, text", [
    ("{% for m in messages %}<{{ m.content }}>{% endfor %}", "<What is 2+2?>"),
    ("{% for m in messages %}{% for part in m['content'] %}<{{ part['text'] }}>{% endfor %}{% endfor %}", "<What is><2+2?>")])
def test_content_in_parts(tmp_path, template, text):
    assert render(tmp_path, ["--chat-template", template], PARTS) == (0, text, "")


def test_content_in_parts_reads_the_same_at_a_server(tmp_path, mono):
    whole = {"messages": [{"role": "user", "content": "What is 2+2?"}]}
    assert render(tmp_path, ["--model-path", SMOLLM2], PARTS)[1] == render(tmp_path, ["--model-path", SMOLLM2], whole)[1]
    answers = [post(mono.mono.url + "/v1/chat/completions", {**chat, "model": "m", "temperature": 0, "max_tokens": 8}) for chat in (PARTS, whole)]
    assert answers[0]["usage"] == answers[1]["usage"]
    assert answers[0]["choices"][0]["message"] == answers[1]["choices"][0]["message"]


def test_raise_exception_is_told(tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{{ raise_exception('roles must alternate') }}")
    code, _, problem = render(tmp_path, ["--chat-template", template], {"messages": [{"role": "user", "content": "a"}]})
    assert code == 2 and "roles must alternate" in problem


def test_syntax_error_names_the_line(tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("a\n{% if %}\n")
    code, _, problem = render(tmp_path, ["--chat-template", template], {"messages": [{"role": "user", "content": "a"}]})
    assert code == 2 and "2" in problem
