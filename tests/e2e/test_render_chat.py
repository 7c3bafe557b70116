"""`baton render-chat` prints what Jinja2 prints: real templates, real conversations."""
import json
import pathlib
import subprocess

import pytest

from cluster import BATON, ROOT, SMOLLM2

TEMPLATES = ROOT.parent / "shared" / "fixtures" / "templates"


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


@pytest.mark.skipif(not TEMPLATES.exists(), reason="the captured templates are not beside this clone (../shared/fixtures/templates)")
def test_real_templates(tmp_path):
    golden = json.loads((TEMPLATES / "golden.json").read_text())
    wrong = []
    count = 0
    for name, renders in golden["renders"].items():
        for case, want in renders.items():
            count += 1
            code, text, _ = render(tmp_path, ["--chat-template", TEMPLATES / name, "--bos-token", "<s>", "--eos-token", "</s>",
                                              "--now", "2026-11-22T12:00:00"], golden["cases"][case])
            if (code != 0) != ("error" in want) or ("text" in want and text != want["text"]):
                wrong.append((name, case))
    assert not wrong
    assert count > 200
