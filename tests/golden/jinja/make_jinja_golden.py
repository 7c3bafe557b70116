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


if __name__ == "__main__":
    from jinja_cases import CASES, VARIABLES

    for name, templates in CASES.items():
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as out:
            cases = [{"template": t, **render(t, VARIABLES)} for t in templates]
            head = json.dumps({"jinja2": jinja2.__version__, "variables": VARIABLES}, ensure_ascii=False)
            lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
            out.write(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')
        print(name, len(cases), "cases,", sum("error" in c for c in cases), "errors")
