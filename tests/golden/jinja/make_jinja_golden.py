#!/usr/bin/env python3
"""Writes tests/golden/jinja/*.json: small templates and what Jinja2 renders, in the environment that Hugging Face
transformers sets up for chat templates. Run with jinja2 3.1 (PyPI) after changing the cases:

    python3 tests/golden/jinja/make_jinja_golden.py
"""
import datetime, json, os

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2026, 11, 22, 12, 0, 0)


class Generation(Extension):
    """The tag with which transformers finds assistant tokens; its body renders unchanged."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def make_environment():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, loopcontrols])

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment


ENVIRONMENT = make_environment()


def render(template, variables):
    """{"text": ...}, or {"error": ...} with the exception's type and words."""
    try:
        text = ENVIRONMENT.from_string(template).render(**variables)
        text.encode()
        return {"text": text}
    except Exception as e:  # noqa: BLE001: whatever the template provokes is the result
        return {"error": f"{type(e).__name__}: {e}"}


def joined(message):
    """The message as a template reads it that wants a string."""
    content = message["content"]
    return message if isinstance(content, str) else {**message, "content": " ".join(part["text"] for part in content)}


def render_parts(cases, messages):
    """What Jinja2 makes of each template when it gets the content that its sort is to get."""
    for sort, template in cases:
        given = messages if sort == "parts" else [joined(m) for m in messages]
        variables = {"messages": given, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
        yield {"sort": sort, "template": template, **render(template, variables)}


if __name__ == "__main__":
    from jinja_cases import CASES, PARTS, PARTS_MESSAGES, VARIABLES

    def write(name, head, cases):
        cases = list(cases)
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as out:
            lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
            head = json.dumps({"jinja2": jinja2.__version__, **head}, ensure_ascii=False)
            out.write(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')
        print(name, len(cases), "cases,", sum("error" in c for c in cases), "errors")

    for name, templates in CASES.items():
        write(name, {"variables": VARIABLES}, ({"template": t, **render(t, VARIABLES)} for t in templates))
    write("parts", {"messages": PARTS_MESSAGES}, render_parts(PARTS, PARTS_MESSAGES))
