#!/usr/bin/env python3
"""Differential fuzzing of our Jinja interpreter against Jinja2.

    differential.py DRIVER [--count 20000] [--seed 1] [--show 20]

DRIVER is driver.cpp, built. Random templates are rendered by both; the texts must be equal, and where Jinja2
fails ours must fail. Differences that we accept: integers beyond 64 bits (ours is an error) and the printed
form of generators and bound methods (Python prints an address), and slices of constants that cannot be sliced
(Jinja2 gives undefined when it folds them and fails otherwise; ours fails); complex numbers. Needs jinja2 (PyPI).
"""
import argparse, json, os, random, re, subprocess, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "jinja"))
from make_jinja_golden import render  # noqa: E402

VARIABLES = {
    "messages": [{"role": "system", "content": " sys "}, {"role": "user", "content": "Hi é\n there"},
                 {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [1.5, "x"]}}}]},
                 {"role": "user", "content": [{"type": "text", "text": "t1"}, {"type": "image"}]}],
    "tools": [{"name": "b", "parameters": {"type": "object", "items": 3}}, {"name": "a", "parameters": {}}],
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e20, "small": 1.5e-7, "t": True, "no": False, "none": None,
    "s": "Hello, World", "u": "Zürich 日本 'q' \"d\"", "e": "", "w": "  pad\t\n", "num": "42", "fl": "3.75", "lines": "a\nb\r\nc\n\n d",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "lm": [1, "a", None, 2.0, [1]], "el": [], "d": {"x": 1, "y": [1, 2], "keys": "k"},
    "ed": {}, "dd": {"b": {"c": {"d": 5}}, "a": None}, "pairs": [["k", 1], ["v", 2]], "html": "<a href='x'>&</a>",
    "rows": [{"g": "x", "v": 1}, {"g": "y", "v": 2}, {"g": "X", "v": 3}, {"v": 4}],
}
NAMES = list(VARIABLES) + ["missing", "loop", "ns", "a", "b"]
ATTRIBUTES = ["role", "content", "name", "x", "y", "keys", "items", "get", "missing", "b", "upper", "function", "first", "last",
              "index", "index0", "length", "previtem", "nextitem", "append", "v", "g", "count", "real"]
STRINGS = ["'a'", "'x'", "''", "', '", "'l'", "'role'", "'user'", "'a\\nb'", "\"q'\"", "'%s-%s'", "'{}'", "'{0:>5}|'", "'é'", "'g'", "'x.y'",
           "'content'", "'keys'", "'%d'", "'%.2f'", "'<b>'", "'1'", "' '", "'user' 'x'"]
NUMBERS = ["0", "1", "2", "3", "-1", "10", "2.5", "0.1", "1e3", "100", "1_000", "0x1f", "7"]
FILTERS = ["abs", "batch(2)|list", "batch(2, 0)|list", "capitalize", "center(9)", "count", "default('D')", "d('D', true)", "dictsort", "e",
           "dictsort(by='value')", "dictsort(reverse=true)", "escape", "filesizeformat", "first", "float", "float(-1.0)", "forceescape", "format(1)",
           "format(1, 'b')", "groupby('g')|list", "indent", "indent(2, true)", "indent('>', false, true)", "int", "int(9)", "int(base=16)", "items|list", "join", "join('-')",
           "join(', ', attribute='name')", "last", "length", "list", "lower", "map('upper')|list", "map(attribute='role')|list",
           "map(attribute='v', default=0)|list", "map('int')|list", "max", "min", "max(attribute='v')", "reject('none')|list", "reject|list",
           "rejectattr('content', 'none')|list", "replace('l', 'L')", "replace('', '.')", "replace('l', 'LL', 1)", "reverse", "reverse|list", "round", "round(1)",
           "round(1, 'floor')", "round(0, 'ceil')", "round(-1)", "safe", "select('string')|list", "select|list", "select('gt', 1)|list",
           "selectattr('role', 'equalto', 'user')|list", "selectattr('role', 'in', ['user', 'tool'])|map(attribute='content')|list",
           "selectattr('content')|list", "slice(2)|list", "slice(3, 'f')|list", "sort", "sort(reverse=true)", "sort(attribute='name')",
           "sort(case_sensitive=true)", "sort(attribute='v', reverse=true)", "string", "striptags", "sum", "sum(attribute='v')", "sum(start=1)", "title", "tojson", "tojson(indent=2)",
           "tojson(sort_keys=true)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(indent=4, separators=(',', ': '))", "trim", "trim('H')", "truncate(5)",
           "truncate(5, true)", "truncate(5, false, '~', 0)", "unique|list", "unique(attribute='g')|list", "upper", "urlencode", "wordcount", "wordwrap(4)",
           "xmlattr", "attr('x')", "nosuch", "map('nosuch')|list", "select('nosuch')|list"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "callable", "true", "false", "even",
         "odd", "divisibleby(3)", "divisibleby 2", "eq 1", "ne(1)", "lt 3", "ge 2", "equalto 'a'", "in [1, 2, 'a']", "in 'abc'", "sameas none", "sameas(true)", "lower",
         "upper", "filter", "test", "escaped", "nosuch", "gt 'a'"]
METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "strip()", "strip('H ')", "lstrip()", "rstrip('\\n')", "split()", "split(',')", "split('l', 1)",
           "rsplit('l', 1)", "split(maxsplit=1)", "splitlines()", "splitlines(true)", "startswith('H')", "endswith(('d', 'x'))", "startswith('l', 2)", "replace('l', 'r')",
           "replace('l', 'r', 1)", "find('l')", "rfind('l')", "index('o')", "find('o', 5)", "find('o', 2, 4)", "count('l')", "count('')", "join(ls)", "join(['a', 'b'])", "format(1, 2)",
           "isdigit()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "isnumeric()", "isidentifier()", "isprintable()", "isascii()",
           "zfill(6)", "center(14, '*')", "center(13)", "ljust(14, '.')", "rjust(14)", "partition(',')", "rpartition('l')", "removeprefix('He')", "removesuffix('ld')", "expandtabs(4)",
           "items()", "keys()", "values()", "get('x')", "get('q', 5)", "get('q')", "copy()", "index(1)", "count(1)", "append(1)", "pop()", "update({})", "casefold()",
           "items()|list", "keys()|list", "values()|list", "items()|first", "keys()|join", "is_integer()", "bit_length()"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


TEXT_METHODS = [m for m in METHODS[:60] if re.match(r"(upper|lower|title|capitalize|swapcase|l?r?strip|replace|zfill|center|[lr]just|remove|expandtabs|casefold)", m)]
TEXT_FILTERS = [f for f in FILTERS if re.match(r"(capitalize|center|default|e$|escape|forceescape|indent|lower|upper|replace|reverse$|safe|string|striptags|title|tojson|trim|truncate|urlencode|wordwrap|first|last)", f)]
LIST_FILTERS = [f for f in FILTERS if re.match(r"(batch|list|reject\b|select\b|slice|reverse\|list|unique\|list|map\('(upper|int)|tojson|first|last|string)", f)]
TYPE_TESTS = [t for t in TESTS if not re.match(r"(even|odd|div|lt|ge|gt|in 'abc|nosuch|filter|test)", t)]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def one(self, options):
        return self.r.choice(options)

    def chance(self, p):
        return self.r.random() < p

    def atom(self):
        k = self.r.random()
        if k < 0.55: return self.one(NAMES)
        if k < 0.70: return self.one(STRINGS)
        if k < 0.85: return self.one(NUMBERS)
        return self.one(["true", "false", "none", "[]", "{}", "[1, 2, 3]", "['a', 'b']", "{'x': 1, 'y': 'b'}", "(1, 2)", "()", "range(4)", "range(5, 0, -2)", "dict(a=1)",
                         "namespace(a=1)", "1.0", "None", "True", "(1,)", "'a'|safe", "{1: 2, none: 3}", "range(3)|list", "dict(d, z=2)", "messages[0]", "messages[-1].content"])

    # Expressions of a known type: most templates should render.
    def text(self, d):
        if d <= 0 or self.chance(.2): return self.one(["s", "u", "e", "w", "num", "fl", "lines", "html", "messages[0].content", "tools[0].name", *STRINGS])
        k, t, n = self.r.random(), lambda: self.text(d - 1), lambda: self.number(d - 1)
        if k < .30: return f"({t()}).{self.one(TEXT_METHODS)}"
        if k < .55: return f"({t()})|{self.one(TEXT_FILTERS)}"
        if k < .62: return f"({t()})[{self.slice()}]"
        if k < .70: return f"({t()}) {self.one(['+', '~'])} ({t()})"
        if k < .74: return f"({t()}) * {self.one(['0', '1', '2', '3'])}"
        if k < .78: return f"({self.any(d - 1)}) ~ ({self.any(d - 1)})"
        if k < .84: return f"({self.any(d - 1)})|{self.one(['string', 'tojson', 'tojson(indent=2)', 'tojson(sort_keys=true, ensure_ascii=true)', 'e', 'upper', 'trim'])}"
        if k < .89: return f"({self.items(d - 1)})|join({self.one(['', t()])})"
        if k < .92: return f"({t()} if {self.truth(d - 1)} else {t()})"
        if k < .95: return self.one([f"'%s/%r/%5s|' % ({t()}, {self.any(d - 1)}, {n()})", f"'{{}}:{{!r:>8}}'.format({n()}, {t()})", f"'%03d %x %+d' % ({self.integer()}, {self.integer()}, {self.integer()})",
                              f"'%.3f %e %g' % ({n()}, {n()}, {n()})", f"'{{:06.2f}}|{{:,}}|{{:<6}}|{{:^7}}|{{:+}}'.format({n()}, {n()}, {n()}, {n()}, {n()})", f"'{{a[0]}} {{0}}'.format({n()}, a={t()} ~ 'x')"])
        return f"({t()}) or ({t()})"

    def integer(self):
        return self.one(["0", "1", "7", "n", "neg", "255", "12345678", "-17", "s|length"])

    def number(self, d):
        if d <= 0 or self.chance(.3): return self.one(["n", "z", "neg", "f", "big", "small", "t", *NUMBERS])
        k, n = self.r.random(), lambda: self.number(d - 1)
        if k < .35: return f"({n()}) {self.one(['+', '-', '*', '//', '%', '/'])} ({n()})"
        if k < .40: return f"({n()}) ** {self.one(['0', '1', '2', '3', '-1', '0.5'])}"
        if k < .60: return f"({n()})|{self.one(['abs', 'int', 'float', 'round', 'round(2)', 'round(-1)', 'round(1, %r)' % 'floor', 'round(1, %r)' % 'ceil'])}"
        if k < .70: return f"({self.one([self.text, self.items, self.mapping])(d - 1)})|length"
        if k < .76: return f"({self.text(d - 1)})|{self.one(['int', 'float', 'int(3)', 'float(1.5)', 'wordcount', 'int(0, 16)'])}"
        if k < .82: return f"({self.text(d - 1)}).{self.one(['find', 'count', 'rfind'])}({self.text(d - 1)})"
        if k < .88: return f"[{n()}, {n()}, {n()}]|{self.one(['sum', 'max', 'min', 'first', 'last'])}"
        if k < .94: return f"({self.one(['-', '+'])}({n()}))"
        return f"({n()} if {self.truth(d - 1)} else {n()})"

    def items(self, d):
        if d <= 0 or self.chance(.25): return self.one(["l", "ls", "lm", "el", "messages", "tools", "pairs", "rows", "range(4)", "range(9, 0, -2)", "(1, 2)", "[1.5, 'x']"])
        k, i = self.r.random(), lambda: self.items(d - 1)
        if k < .25: return f"({i()})|{self.one(LIST_FILTERS)}"
        if k < .32: return f"({i()})[{self.slice()}]"
        if k < .42: return f"({self.text(d - 1)}).{self.one(['split()', 'splitlines()', 'split(%r)' % 'l', 'rsplit(none, 1)', 'partition(%r)' % 'o', 'split(%r, 1)' % 'e'])}"
        if k < .50: return f"({self.mapping(d - 1)}){self.one(['.items()', '.keys()', '.values()', '|list', '|dictsort', '|items|list', '.items()|list'])}"
        if k < .58: return f"({i()}|list) + ({i()}|list)"
        if k < .66: return f"[{', '.join(self.any(d - 1) for _ in range(self.r.randint(0, 4)))}]"
        if k < .76: return f"messages|{self.one(['selectattr', 'rejectattr'])}({self.one(['%r' % 'role', '%r' % 'content'])}, {self.one(['%r, %r' % ('eq', 'user'), '%r' % 'string', '%r' % 'none', '%r, %r' % ('ne', 'user'), '%r' % 'mapping', '%r' % 'iterable'])})|{self.one(['list', 'map(attribute=%r)|list' % 'role'])}"
        if k < .86: return f"rows|{self.one(['groupby(%r)' % 'g' + ' if false else rows', 'sort(attribute=%r)' % 'v', 'map(attribute=%r)|list' % 'v', 'map(attribute=%r, default=%r)|list' % ('g', '?'), 'selectattr(%r)|list' % 'g', 'rejectattr(%r, %r)|list' % ('g', 'undefined'), 'sort(attribute=%r, reverse=true)' % 'v,g'])}"
        return f"({self.text(d - 1)})|list"

    def mapping(self, d):
        if d <= 0 or self.chance(.4): return self.one(["d", "ed", "dd", "dd.b", "messages[1]", "tools[0]", "rows[3]", "{'x': 1}"])
        k = self.r.random()
        if k < .4: return "{" + ", ".join(f"{self.one(STRINGS)}: {self.any(d - 1)}" for _ in range(self.r.randint(0, 4))) + "}"
        if k < .6: return f"dict({self.mapping(d - 1)}, {self.one('abxy')}={self.any(d - 1)})"
        if k < .7: return f"dict(({self.mapping(d - 1)}).items())"
        return f"({self.mapping(d - 1)} if {self.truth(d - 1)} else {self.mapping(d - 1)})"

    def truth(self, d):
        if d <= 0: return self.one(["t", "no", "true", "false", "none", "missing", "el", "l"])
        k, a = self.r.random(), lambda: self.any(d - 1)
        if k < .2: return f"({self.number(d - 1)}) {self.one(['<', '<=', '>', '>=', '==', '!='])} ({self.number(d - 1)})"
        if k < .35: return f"({self.text(d - 1)}) {self.one(['<', '<=', '>', '>=', '==', '!=', 'in', 'not in'])} ({self.text(d - 1)})"
        if k < .45: return f"({a()}) {self.one(['==', '!='])} ({a()})"
        if k < .55: return f"({a()}) {self.one(['in', 'not in'])} ({self.items(d - 1)})"
        if k < .60: return f"({self.text(d - 1)}) {self.one(['in', 'not in'])} ({self.mapping(d - 1)})"
        if k < .80: return f"({a()}) is {self.one(['', 'not '])}{self.one(TYPE_TESTS)}"
        if k < .85: return f"({self.text(d - 1)}).{self.one(['startswith', 'endswith'])}({self.text(d - 1)})"
        if k < .93: return f"({self.truth(d - 1)}) {self.one(['and', 'or'])} ({self.truth(d - 1)})"
        return f"not ({a()})"

    def any(self, d):
        return self.one([self.text, self.text, self.number, self.items, self.mapping, self.truth])(d)

    def expression(self, depth=3):
        if self.chance(.75): return self.any(depth)
        if depth <= 0: return self.atom()
        k = self.r.random()
        sub = lambda: self.expression(depth - 1)
        if k < 0.18: return self.atom()
        if k < 0.38: return f"{self.group(sub())}|{self.one(FILTERS)}"
        if k < 0.48: return f"{self.group(sub())}.{self.one(METHODS)}"
        if k < 0.60: return f"{self.group(sub())} {self.one(BINARY)} {self.group(sub())}"
        if k < 0.65: return f"{self.group(sub())} is {self.one(['', 'not '])}{self.one(TESTS)}"
        if k < 0.70: return f"{self.group(sub())}.{self.one(ATTRIBUTES)}"
        if k < 0.76: return f"{self.group(sub())}[{self.one(['0', '1', '-1', '5', repr(self.one(ATTRIBUTES)), 'n', 's', 'missing', '1.0', 'true'])}]"
        if k < 0.82: return f"{self.group(sub())}[{self.slice()}]"
        if k < 0.87: return f"({sub()} if {sub()}{' else ' + sub() if self.chance(.8) else ''})"
        if k < 0.90: return f"not {self.group(sub())}"
        if k < 0.93: return f"[{', '.join(sub() for _ in range(self.r.randint(0, 3)))}]"
        if k < 0.96: return "{" + ", ".join(f"{self.one(STRINGS)}: {sub()}" for _ in range(self.r.randint(0, 3))) + "}"
        if k < 0.98: return f"{self.group(sub())} < {self.group(sub())} <= {self.group(sub())}"
        return f"{sub()} {self.one(BINARY)} {sub()} {self.one(BINARY)} {sub()}"

    def slice(self):
        part = lambda: self.one(["", "", "0", "1", "-1", "2", "-3", "100", "none", "n"])
        return f"{part()}:{part()}" + (f":{self.one(['', '1', '-1', '2', '-2', '0'])}" if self.chance(.4) else "")

    def group(self, text):
        return f"({text})" if self.chance(.6) or not re.fullmatch(r"[\w.\[\]'\"]+", text) else text

    def tag(self, text):
        return "{%" + self.one(["", "", "-", "-", "+"]) + f" {text} " + self.one(["", "", "-", "-", "+"]) + "%}"

    def data(self):
        return self.one(["", " ", "\n", "\n  ", "x", " y \n", "\n\n", "a\n   ", "\t", "é", "{# c #}", "{#- c -#}", "  {# c #}\n", "{% raw %}{{ r }}{% endraw %}", "\r\n", "}}", "%}", "{", "{ {"])

    def print(self):
        return "{{" + self.one(["", "-", ""]) + f" {self.expression(self.r.randint(1, 4))} " + self.one(["", "-", ""]) + "}}"

    def body(self, depth, loop=False):
        return "".join(self.data() + self.statement(depth, loop) for _ in range(self.r.randint(1, 3))) + self.data()

    def statement(self, depth=2, loop=False):
        k = self.r.random()
        if depth <= 0 or k < 0.35: return self.print()
        e = lambda: self.expression(2)
        t = self.tag
        inner = lambda lp=loop: self.body(depth - 1, lp)
        if k < 0.50:
            elif_ = t(f"elif {e()}") + inner() if self.chance(.3) else ""
            else_ = t("else") + inner() if self.chance(.4) else ""
            return t(f"if {e()}") + inner() + elif_ + else_ + t("endif")
        if k < 0.65:
            target = self.one(["a", "b", "a, b", "x"])
            source = self.one(["messages", "l", "d.items()", "pairs", "s", "range(3)", "el", "missing", "rows", "d", e()])
            test = f" if {e()}" if self.chance(.25) else ""
            else_ = t("else") + inner() if self.chance(.2) else ""
            extra = self.one(["", "", "{{ loop.index }}{{ loop.last }}", "{{ loop.revindex0 }}/{{ loop.length }}", "{{ loop.cycle('o', 'e') }}",
                              "{{ loop.previtem is defined }}{{ loop.nextitem|default('N') }}", "{{ loop.changed(a) }}"])
            control = t(f"if {e()}") + t(self.one(["break", "continue"])) + t("endif") if self.chance(.15) else ""
            return t(f"for {target} in {source}{test}") + extra + control + inner(True) + else_ + t("endfor")
        if k < 0.76:
            name = self.one(["a", "b", "x", "n", "s", "tools", "a, b"])
            if self.chance(.75): return t(f"set {name} = {e()}")
            return t(f"set {name.split(',')[0]}{self.one(['', '|upper', '|trim|length'])}") + inner() + t("endset")
        if k < 0.82:
            return t(f"set ns = namespace(a={e()})") + t(f"set ns.{self.one(['a', 'b'])} = {e()}") + "{{ ns.a }}{{ ns.b }}"
        if k < 0.90:
            params = self.one(["", "a", "a, b=2", "a='D', b=a", "a, caller=none"])
            use = self.one(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller is defined }}", "{{ a }}|{{ b }}"])
            args = self.one(["", e(), f"{e()}, {e()}", f"b={e()}", f"{e()}, 2, 3", "q=1", "*l", "**ed"])
            return t(f"macro m({params})") + use + inner(False) + t("endmacro") + "{{ m(" + args + ") }}"
        if k < 0.93: return t("macro c()") + "[{{ caller(1) }}]" + t("endmacro") + t(self.one(["call(a) c()", "call c()"])) + inner(False) + t("endcall")
        filters = ["upper", "trim", "replace('a', 'b')", "indent(2)|title"]
        if k < 0.95: return t(f"filter {self.one(filters)}") + inner() + t("endfilter")
        if k < 0.97: return t(f"with a = {e()}, b = {e()}") + inner() + t("endwith")
        if k < 0.98: return t("generation") + inner(False) + t("endgeneration")
        return t("for a in [[1, [2]], [3]] recursive") + "{{ loop.depth }}{{ loop(a) if a is iterable else a }}" + t("endfor")

    def template(self):
        return self.print() if self.chance(.5) else self.body(2)


def accepted(ours, theirs):
    """The differences named above."""
    if "not subscriptable" in ours.get("error", "") or "'slice'" in ours.get("error", ""): return True
    if "complex results" in ours.get("error", ""): return True
    if "64-bit" in ours.get("error", "") or "64 bits" in ours.get("error", ""): return True
    text = theirs.get("text", "")
    return bool(re.search(r" at 0x[0-9a-f]+>|<generator|<function|<class|<Macro|jinja2\.", text)) or "0x7f" in text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver"); parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1); parser.add_argument("--show", type=int, default=20)
    options = parser.parse_args()
    driver = subprocess.Popen([options.driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    different = failures = 0
    for i in range(options.count):
        template = Generator(options.seed * 1_000_003 + i).template()
        request = {"template": template, "variables": VARIABLES, "bos_token": "<s>", "eos_token": "</s>"}
        driver.stdin.write(json.dumps(request).encode() + b"\n"); driver.stdin.flush()
        line = driver.stdout.readline()
        if not line: sys.exit(f"the driver died on {template!r}")
        ours = json.loads(line)
        theirs = render(template, {**VARIABLES, "bos_token": "<s>", "eos_token": "</s>"})
        failures += "error" in theirs
        same = ours == theirs if "text" in theirs else "error" in ours
        if same or accepted(ours, theirs): continue
        different += 1
        if different <= options.show: print(f"{template!r}\n  jinja2 {theirs}\n  ours   {ours}")
    print(f"{options.count} templates, {failures} fail in Jinja2, {different} differ")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
