"""The templates of make_jinja_golden.py, by subject, and the variables that all of them see."""

VARIABLES = {
    "messages": [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": "Wetter in Zürich?"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c1", "type": "function",
                         "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2, "f": -0.0025}}}]},
        {"role": "tool", "content": "{\"t\": 3.5}", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "and "}, {"type": "image"}, {"type": "text", "text": "now?"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "Of a \"city\" <now> & é\n",
                                                 "parameters": {"type": "object", "items": 1, "required": ["city"]}}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
    "n": 7, "neg": -3, "f": 2.5, "t": True, "none_": None, "s": "Hello World", "u": "Zürich 日本 🎉", "q": "it's \"q\"", "e": "",
    "w": " \t pad \n", "l": [3, 1, 2], "ls": ["b", "A", "c"], "mixed": [1, "a", None, 2.0, [True]], "d": {"b": 1, "a": [1, 2], "keys": "k"},
    "rows": [{"g": "x", "v": 3}, {"g": "y", "v": 1}, {"g": "X", "v": 2}],
}

WHITESPACE = [
    "a\n{% if true %}\n  b\n{% endif %}\nc\n", "  {% if true %}x{% endif %}  \n", "  {%- if true -%}  x  {%- endif -%}  y", "a {{- 1 -}} b", "a {{ 1 }}\nb",
    "\n\n{{ 1 }}\n\n", "a\n  {# c #}\nb", "a  {#- c -#}  b", "a {#- c #} b", "{%+ if true %} x{% endif %}", "  {%+ if true +%}\nx{% endif %}",
    "x\n    {% set a = 1 %}\n    y{{ a }}", "x {% set a = 1 %} y", "{{ 1 }}   {% if true %}\t\n z{% endif %}", "a\r\nb\rc\n", "{% raw %}{{ x }} {% if %}{% endraw %}",
    "a\n  {% raw %}\n b {% endraw %}\n c", "a {%- raw -%} b {%- endraw -%} c", "{% raw %} x{% endraw +%}\ny", "a\n\t{%- if true %}\n\tb\n\t{%- endif %}\n",
    "{{ '}}' }}{{ {'a': {'b': 1}} }}", "{{'a'}}{{-'b'-}} {{+'c'}}", "{# a {{ b }} #}x", "a{{ 1 }}\n{% if t %}\n{% endif %}\nb", "last\n\n", "a {%-\nif t\n-%} b {%- endif %}",
    "\u00a0{%- if t %} \u2003x\u2003 {%- endif %}", "{% if t -%}\n\n  x\n{%- endif %}\ny", "{{ '\\n' }}{# x #}\n\ny", "{{ a", "{% if t %}", "{# open", "{% raw %}x", "{{ 1 }", "{{ (1 }}",
    "{% endif %}", "{% frobnicate %}", "{{ 1 2 }}", "{% if %}{% endif %}", "{{ }}", "{{ 'abc }}", "{{ a..b }}", "{{ 3x }}", "{% for in x %}{% endfor %}", "{% set 1 = 2 %}", "{% set none = 2 %}",
]

LITERALS = [
    "{{ 1 }} {{ -1 }} {{ +1 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }}", "{{ 1.5 }} {{ 1e3 }} {{ 1E-7 }} {{ 1.0 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 1e22 }}",
    "{{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 1e-5 }} {{ 0.0001 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ -0.0 }}", "{{ true }} {{ True }} {{ false }} {{ none }} {{ None }}",
    "{{ 'a' 'b' \"c\" }}", "{{ 'a\\nb\\t\\\\ \\' \\x41 \\u00e9 \\U0001F389 \\101 \\q' }}", "{{ 'é\\é' }}", "{{ [1, 'a', none, true, 2.0, [], {}] }}", "{{ (1,) }} {{ () }} {{ (1, 'a') }} {{ 1, 2 }}",
    "{{ {'a': 1, 'b': [1], 3: none, 'a': 2} }}", "{{ 'it\\'s' }} {{ ['it\\'s', 'a\"b', 'it\\'s \"q\"', 'a\\nb\\\\', 'é', '\\x00\\x7f', '\\u200b'] }}", "{{ q }} {{ [q] }} {{ [u] }}", "{{ mixed }} {{ d }}",
    "{{ {1: 'int', 1.0: 'float', true: 'bool'} }}", "{{ [1, 2,] }} {{ {'a': 1,} }}", "{{ 10 ** 18 }}", "{{ 'a\\\nb' }}", "{{ 1.5.real }}", "{{ messages.0.role }} {{ pairs.0.1 }}",
]

OPERATORS = [
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}", "{{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1 // 0 }}",
    "{{ 1 + true }} {{ 1.0 + 1 }} {{ 'a' + 'b' }} {{ [1] + [2] }} {{ (1,) + (2,) }}", "{{ 'a' * 3 }} {{ 2 * [1] }} {{ 'a' * -1 }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ [1] + (2,) }}", "{{ none + 'a' }}", "{{ 'a' + none }}", "{{ missing + 1 }}",
    "{{ 1 ~ 'a' ~ none ~ [1] ~ 2.0 ~ missing }}", "{{ 1 == 1.0 }} {{ 'a' == 'a' }} {{ [1, 2] == [1, 2] }} {{ (1,) == [1] }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ none == false }} {{ 1 == true }}",
    "{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ [1, 2] < [1, 3] }} {{ 1 <= 1.0 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ 1 < 2 == true }}", "{{ 'a' in 'cat' in ['cat'] }}",
    "{{ 1 in [1, 2] }} {{ 'x' in 'xyz' }} {{ 'b' in d }} {{ 'z' not in d }} {{ 1 in (1,) }} {{ 2 in range(3) }}", "{{ 1 in 'abc' }}", "{{ 'a' in none }}", "{{ 'a' in missing }}", "{{ missing in 'a' }}", "{{ none in [none] }}",
    "{{ true and 1 }} {{ 0 and 1 }} {{ '' or 'x' }} {{ none or false }} {{ not 1 }} {{ not '' }} {{ not [] and true }}", "{{ 1 if t else 2 }} {{ 1 if not t else 2 }} [{{ 1 if not t }}] {{ 'a' if e else 'b' if t else 'c' }}",
    "{{ (1 if not t) is defined }}", "{{ not 1 in [1] }}", "{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 10 - 2 - 3 }} {{ 2 * 3 ~ 4 }} {{ -1|abs }}", "{{ 'x' if 'a' is string else 'y' }}", "{{ '%s and %d' % ('a', 3) }} {{ '%r' % 'a' }} {{ '%5.1f|%-5s|%05d|%x|%%' % (1.25, 'ab', 42, 255) }}",
    "{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }}", "{{ '%s' % missing }}", "{{ '%d' % 'a' }}", "{{ '%s' % (1, 2) }}", "{{ '%s %s' % 1 }}", "{{ 9223372036854775807 }}", "{{ 1 != 2 }} {{ 'a' != none }} {{ 2 >= 2 }}", "{{ [1, [2, {'a': 3}]] == [1, [2, {'a': 3.0}]] }}",
]

ACCESS = [
    "{{ messages[0].role }} {{ messages[0]['role'] }} {{ messages[-1]['role'] }} {{ messages|length }}", "{{ d.keys is callable }}", "{{ d['keys'] }} {{ d.b }} {{ d.nope }} {{ d['nope'] }} {{ d.nope is defined }}", "{{ tools[0].function.parameters['items'] }}",
    "{{ d.nope.deeper }}", "{{ missing.x }}", "{{ missing['x'] }}", "{{ missing[0] }}", "{{ missing() }}", "{{ none_.x }}|{{ none_['x'] }}|{{ none_[0] }}", "{{ s[0] }} {{ s[-1] }} {{ s[99] }} {{ u[1] }} {{ u[-1] }}", "{{ s[1:4] }} {{ s[::-1] }} {{ s[-3:] }} {{ s[:-3] }} {{ s[::2] }} {{ s[10:2:-3] }}",
    "{{ u[1:8] }} {{ u[::-1] }} {{ u|length }} {{ u[-1:] }}", "{{ l[1:] }} {{ l[:1] }} {{ l[::-1] }} {{ l[5:] }} {{ (1, 2, 3)[1:] }} {{ range(10)[2:8:3]|list }}", "{{ l['a'] }}|{{ l[1.0] }}|{{ l[true] }}", "{{ d[1:] }}", "{{ none_[1:] }}", "{{ l[::0] }}", "{{ l[missing:] }}", "{{ 5|string[0] }}",
    "{{ messages[1:]|map(attribute='role')|join(',') }}", "{{ l.append(4) }}", "{{ l.append }}|", "{{ d.update({}) }}", "{{ d.pop('b') }}", "{{ s.__class__ }}|", "{{ s.__class__.__name__ }}", "{{ d.get('b') }} {{ d.get('z') }} {{ d.get('z', 5) }} {{ d.get('b', default=1) }}", "{{ d.items() }} {{ d.keys() }} {{ d.values() }}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{{ d.items()|list }} {{ d|list }} {{ d.keys()|list|length }}", "{{ l.index(1) }} {{ l.count(3) }} {{ (1, 2).index(2) }}", "{{ l.index(9) }}", "{{ d.items()[0] }}", "{{ messages[2].tool_calls[0].function.arguments.items()|list }}", "{{ n.real }} {{ f.is_integer() }}", "{{ dict.fromkeys(['a', 'b'], 1) }}", "{{ dict.from_keys([['a', 1]]) }}",
]

STRINGS = [
    "{{ s.upper() }} {{ s.lower() }} {{ 'hello wORLD'.title() }} {{ 'hELLO'.capitalize() }} {{ s.swapcase() }}", "{{ u.upper() }} {{ 'straße ﬁ'.upper() }} {{ 'ΑΣ Σ'.lower() }} {{ 'ǆ'.title() }}", "[{{ w.strip() }}] [{{ w.lstrip() }}] [{{ w.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abcba'.lstrip('ba') }}] [{{ '\\u3000a\\u00a0'.strip() }}]",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(none, 1) }} {{ 'a b  '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b c'.rsplit(maxsplit=1) }}", "{{ 'a'.split('') }}",
    "{{ 'a</think>b</think>c'.split('</think>')[-1].lstrip('\\n') }} {{ 'x</think>y'.split('</think>')[0].rstrip('\\n').split('<think>')[-1] }}", "{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.startswith('l', 2) }} {{ s.endswith('l', 0, 4) }}", "{{ s.startswith(none) }}", "{{ s.startswith(['H']) }}",
    "{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'aaa'.replace('', '-') }} {{ 'aé'.replace('', '.', 2) }}", "{{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('z') }} {{ s.index('W') }} {{ u.find('日') }} {{ s.find('o', 5) }} {{ s.find('', 99) }} {{ s.count('l') }} {{ ''.count('') }}", "{{ s.index('z') }}",
    "{{ ', '.join(['a', 'b']) }} {{ '-'.join('abc') }} {{ ''.join([]) }}", "{{ ', '.join([1]) }}", "{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}'.format(1, 2) }} {{ '{a}-{b[0]}-{c.role}'.format(a=1, b=[2], c=messages[0]) }} {{ '{:>6}|{:<6}|{:^6}|{:06.2f}|{:,}|{:x}|{!r:>5}'.format('a', 'b', 'c', 3.14159, 1234567, 255, 'x') }} {{{{}}}}",
    "{{ '{:d}'.format('a') }}", "{{ '{}'.format() }}", "{{ '{'.format(1) }}", "{{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ ''.isdigit() }} {{ 'AB'.isupper() }} {{ 'ab1'.islower() }} {{ 'Ab Cd'.istitle() }} {{ '²'.isdigit() }} {{ '½'.isnumeric() }} {{ 'a_1'.isidentifier() }} {{ 'é'.isascii() }}",
    "{{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ 'ab'.center(7, '*') }} {{ 'ab'.center(5) }}| {{ 'ab'.ljust(5, '.') }} {{ 'ab'.rjust(5) }}", "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }}", "{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.json'.removesuffix('.json') }} {{ 'x'.removesuffix('y') }}",
    "{{ 'a\\nb\\r\\nc\\u2028d\\n'.splitlines() }} {{ 'a\\nb\\n'.splitlines(true) }} {{ 'a\\tb'.expandtabs(4) }}", "{{ 'Straße'.casefold() }}", "{{ s.nope() }}", "{{ s.upper(1) }}", "{{ s.upper is callable }}",
]

FILTERS = [
    "{{ -3|abs }} {{ f|abs }} {{ 'a'|upper }} {{ 'A'|lower }} {{ 'hello-world foo'|title }} {{ 'hELLO'|capitalize }} [{{ w|trim }}] {{ 'xax'|trim('x') }}", "{{ 'a'|abs }}", "{{ missing|default('d') }} {{ none_|default('d') }} {{ none_|default('d', true) }} {{ ''|d('x', boolean=true) }} {{ missing|default }}|",
    "{{ l|length }} {{ s|count }} {{ d|length }} {{ missing|length }}", "{{ 5|length }}", "{{ none_|length }}", "{{ l|first }} {{ l|last }} {{ []|first }}| {{ s|first }} {{ s|last }} {{ d|first }}", "{{ l|join(', ') }} {{ ls|join }} {{ rows|join('/', attribute='g') }} {{ mixed|join('|') }} {{ 'abc'|join('.') }}",
    "{{ l|sort }} {{ ls|sort }} {{ ls|sort(case_sensitive=true) }} {{ l|sort(reverse=true) }} {{ rows|sort(attribute='v')|map(attribute='v')|list }} {{ rows|sort(attribute='g,v')|map(attribute='v')|list }}", "{{ mixed|sort }}", "{{ d|dictsort }} {{ {'B': 1, 'a': 2}|dictsort }} {{ {'B': 1, 'a': 2}|dictsort(true) }} {{ {'x': 2, 'y': 1}|dictsort(by='value') }} {{ {'x': 2, 'y': 1}|dictsort(reverse=true) }}",
    "{{ l|reverse|list }} {{ s|reverse }} {{ u|reverse }} {{ l|max }} {{ l|min }} {{ l|sum }} {{ rows|sum(attribute='v') }} {{ ls|max }} {{ []|max }}| {{ [1.5, 2]|sum(start=1) }}", "{{ ls|sum }}", "{{ '42'|int }} {{ '4.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ '0x1A'|int(0, 16) }} {{ 4.9|int }} {{ none_|int }} {{ ' 7 '|int }} {{ '1e3'|int }} {{ '1_0'|int }}", "{{ missing|int }}",
    "{{ '1.5'|float }} {{ 'x'|float }} {{ 'x'|float(2.5) }} {{ 3|float }} {{ 'inf'|float }} {{ '-nan'|float }} {{ ' 1e3 '|float }}", "{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 42|round }} {{ 2.1|round(0, 'ceil') }} {{ -0.2|round(0, 'ceil') }} {{ (-0.2)|round(0, 'ceil') }} {{ 2.9|round(method='floor') }} {{ 15|round(-1) }} {{ 25|round(-1) }} {{ 1234.5|round(-2) }}", "{{ 'a'|round }}",
    "{{ l|string }} {{ 1.0|string }} {{ missing|string }}| {{ s|list }} {{ u|list }} {{ d|items|list }} {{ missing|items|list }}", "{{ l|items|list }}", "{{ s|replace('l', 'L') }} {{ s|replace('l', 'L', 1) }} {{ 5|replace('5', 'five') }} {{ 'aa'|replace('a', '', count=1) }}", "{{ '<a href=\"x\">\\'&</a>'|e }} {{ '<b>'|escape|safe }} {{ ('<b>'|e) + '<i>' }} {{ '<b>'|e|e }} {{ ('<b>'|e) ~ '<i>' }}",
    "{{ 'a\\nb\\n\\nc'|indent }} {{ 'a\\nb'|indent(2, true) }} {{ 'a\\n\\nb'|indent(2, blank=true) }} {{ 'a\\nb'|indent('> ') }}", "{{ none_|indent }}", "{{ 'hello world foo'|truncate(11) }} {{ 'hello world foo bar'|truncate(9) }} {{ 'hello world foo bar'|truncate(9, true) }} {{ 'hello world foo bar'|truncate(9, true, '!', 0) }}",
    "{{ range(7)|batch(3)|list }} {{ range(7)|batch(3, 'x')|list }} {{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'x')|list }}", "{{ rows|groupby('g') }} {% for g, items in rows|groupby('g') %}{{ g }}:{{ items|length }} {% endfor %}{% for g in rows|groupby('g', case_sensitive=true) %}{{ g.grouper }}{{ g.list|length }}{% endfor %}", "{{ ['a', 'A', 'b', 'a']|unique|list }} {{ ['a', 'A']|unique(true)|list }} {{ rows|unique(attribute='g')|map(attribute='v')|list }}",
    "{{ rows|map(attribute='g')|list }} {{ ls|map('upper')|list }} {{ ['a', 'b']|map('replace', 'a', 'x')|join }} {{ rows|map(attribute='z', default=0)|list }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|selectattr('role', 'in', ['user', 'tool'])|map(attribute='role')|list }} {{ messages|rejectattr('content')|list|length }} {{ messages|selectattr('tool_calls', 'defined')|map(attribute='role')|join }} {{ mixed|select('string')|list }} {{ mixed|reject('none')|list }} {{ mixed|select|list }} {{ l|select('gt', 1)|list }} {{ l|select('>=', 2)|list }}",
    "{{ 'yes' if messages|selectattr('role', 'eq', 'nobody') else 'no' }}", "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}", "{{ (l|map('string'))[0] is defined }}", "{{ l|map('string')|length }}", "{{ l|map('nope')|list }}", "{{ l|nope }}", "{% if false %}{{ l|nope }}{% endif %}ok", "{{ 1 if true else l|nope }}", "{% for x in l if false %}{{ x|nope }}{% endfor %}", "{{ 'a b c'|wordcount }} {{ 'a b&c/d'|urlencode }} {{ {'a': 1, 'b': 'x y'}|urlencode }} {{ {'class': 'a\"b', 'x': none}|xmlattr }} {{ 'ab'|center(6) }}| {{ '<p>a  <b>c</b>&amp;</p>'|striptags }}",
    "{{ '%s-%s'|format(1, 'a') }} {{ '%(x)s'|format(x=5) }}", "{{ 1000|filesizeformat }} {{ 1|filesizeformat }} {{ 1536|filesizeformat(true) }} {{ 5000000|filesizeformat }}", "{{ d|attr('keys') is callable }} {{ d|attr('b') is defined }}", "{{ 'the quick brown fox jumps'|wordwrap(10) }} {{ 'abcdefghij-klm nop'|wordwrap(5) }}",
]

JSON = [
    "{{ tools|tojson }}", "{{ tools|tojson(indent=2) }}", "{{ tools[0]|tojson(indent=4) }}", "{{ messages[2]|tojson }}", "{{ {'b': 1, 'a': [true, none, 1.0, -0.0025, 1e20, 'é🎉']}|tojson }}", "{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}", "{{ 'é\\u2028\\x01\\x7f\"\\\\/<>&\\''|tojson }}", "{{ 'é🎉'|tojson(ensure_ascii=true) }} {{ 'é'|tojson(true) }}",
    "{{ [1, 2]|tojson(separators=(',', ':')) }} {{ [1, [2]]|tojson(indent=1, separators=(',', ': ')) }} {{ [1]|tojson(indent='--') }} {{ [1]|tojson(indent=0) }}", "{{ []|tojson(indent=2) }} {{ {}|tojson(indent=2) }} {{ [[], {}]|tojson(indent=2) }}", "{{ (1, 2)|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}", "{{ missing|tojson }}", "{{ range(3)|tojson }}", "{{ d.items()|tojson }}", "{{ s.upper|tojson }}", "{{ none|tojson }} {{ true|tojson }} {{ 'x'|tojson|safe }} {{ 1.5|tojson }}", "{{ {(1, 2): 3}|tojson }}", "{{ namespace()|tojson }}",
]

TESTS = [
    "{{ missing is defined }} {{ n is defined }} {{ missing is undefined }} {{ d.z is defined }} {{ none_ is none }} {{ none_ is not none }}", "{{ 'a' is string }} {{ 1 is string }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ 1 is boolean }}",
    "{{ d is mapping }} {{ l is mapping }} {{ l is sequence }} {{ d is sequence }} {{ 'a' is sequence }} {{ 1 is sequence }} {{ range(2) is sequence }} {{ d.keys() is sequence }} {{ missing is sequence }}", "{{ l is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ none is iterable }} {{ missing is iterable }} {{ l|map('int') is iterable }}", "{{ range is callable }} {{ s is callable }} {{ s.upper is callable }}",
    "{{ 2 is even }} {{ 3 is odd }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 1 is eq 1 }} {{ 1 is ne(2) }} {{ 1 is lt 2 }} {{ 2 is gt(1) }} {{ 2 is ge 2 }} {{ 'a' is equalto 'a' }} {{ 1 is in [1] }} {{ 'a' is in 'cat' }}", "{{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }} {{ none is sameas none }} {{ 1 is sameas true }}", "{{ 'abc' is lower }} {{ 'ABC' is upper }} {{ '' is lower }} {{ 'x'|e is escaped }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'zz' is filter }}",
    "{{ 'a' is even }}", "{{ 1 is nope }}", "{% if false %}{{ 1 is nope }}{% endif %}ok", "{{ missing.x is defined }}", "{{ n is not string and n is number }}", "{{ 'a' is string is string }}", "{{ [] is defined and [] is iterable and [] is not mapping }}", "{{ not missing is defined }}", "{{ 2 is even or 'x' }}", "{{ messages[0].content is string and messages[4].content is not string }}",
]

STATEMENTS = [
    "{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}", "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem|default('-') }}<{{ x }}>{{ loop.nextitem|default('-') }} {% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }} {% endfor %}", "{% for x in l %}{% for y in ls %}{{ loop.index }}{{ loop.depth }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a in none_ %}{% endfor %}", "{% for a in 5 %}{% endfor %}", "{% for a in missing %}x{% else %}empty{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% break %}{% else %}else{% endfor %}", "{% for x in l %}{% continue %}{% else %}else{% endfor %}", "{% break %}", "{% for x in [[1, [2]], [3]] recursive %}{{ loop.depth }}{{ loop(x) if x is iterable else x }}{% endfor %}", "{% for x in l %}{{ loop(x) }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}{{ x }}|", "{{ range(100001) }}", "{{ range(5)|list }} {{ range(1, 10, 3)|list }} {{ range(3, 0, -1)|list }} {{ range(3) }}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }} {{ ns.nope }}|", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.c = [1] %}{{ ns.c }}{{ ns['a'] }}", "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% if t %}{% set y = 1 %}{% endif %}{{ y }}", "{% if not t %}{% set y = 1 %}{% endif %}[{{ y }}]", "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}", "{% set (a, b) = 'xy' %}{{ a }}{{ b }}", "{% set x = 1, %}{{ x }}",
    "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper | replace('A', 'z') %}abc{% endset %}{{ x }}", "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% set a = 5 %}{{ a }}{% endwith %}{{ a }}|", "{% with %}x{% endwith %}", "{% if n == 1 %}a{% elif n == 7 %}b{% else %}c{% endif %}{% if e %}d{% elif none_ %}e{% endif %}", "{% if n > 5 and s %}y{% endif %}{% if not (n > 5) or e %}z{% endif %}",
    "{% for m in messages %}{% if m.role == 'user' %}{% set last = loop.index0 %}{% endif %}{% endfor %}[{{ last }}]", "{% for x in l %}{% set z = x %}{% endfor %}{{ z }}|", "{% for x in l %}{{ z }}{% set z = x %}{% endfor %}", "{% set n = n + 1 %}{{ n }}", "{% for i in l %}{% set n = n + 1 %}{{ n }} {% endfor %}{{ n }}", "{% for i in [1] %}{{ n }}{% endfor %}{% set n = 5 %}{{ n }}", "{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{% set n = 5 %}{{ f() }}", "{% for i in [1] %}{% if true %}{% set n = 1 %}{% else %}{% set n = 2 %}{% endif %}{% endfor %}{{ n }}",
    "{% generation %}a{% set zz = 1 %}{{ zz }}{% endgeneration %}{{ zz }}|", "{% block b %}x{{ n }}{% endblock %}", "{% print n, s %}", "{% do n %}", "{% include 'x' %}", "{% set loop = 1 %}{{ loop }}", "{{ loop }}|", "{% for x in l %}{% endfor %}{{ loop }}|", "{% for x in l: %}{{ x }}{% endfor %}", "{% for x in messages if x.role == 'user' or x.role == 'tool' %}{{ x.role }}{{ loop.last }} {% endfor %}", "{% set ns = namespace(f=true) %}{% for x in l if ns.f %}{{ x }}{% set ns.f = false %}{% endfor %}",
]

MACROS = [
    "{% macro f(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}{{ f() }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}", "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(3) }}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }}{{ f(none) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro f(x) %}{% set y = x %}{{ y }}{% endmacro %}{{ f(1) }}{{ y }}|", "{% set y = 1 %}{% macro f() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ f() }}", "{% macro f() %}{{ x }}{% endmacro %}{% for x in l %}{{ f() }}{% endfor %}|", "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}in{% endcall %}", "{% macro f() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{{ n }}{% endcall %}", "{% macro f() %}x{% endmacro %}{% call f() %}in{% endcall %}",
    "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}", "{% macro f() %} x {% endmacro %}[{{ f()|trim }}] {{ f() ~ 'y' }} {{ f is callable }} {{ f.name }}", "{{ f(1) }}{% macro f(a) %}{{ a }}{% endmacro %}", "{% if t %}{% macro f() %}m{% endmacro %}{% endif %}{{ f() }}", "{% macro f(*a) %}{% endmacro %}", "{% macro f(a=1, b) %}{% endmacro %}", "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 3, 'b': 4}) }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro f(x) %}{% for i in x %}{{ i }}{% endfor %}{% endmacro %}{{ f(l) }}{{ f('ab') }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ raise_exception('no ' ~ n) }}", "{% if n == 8 %}{{ raise_exception('x') }}{% endif %}fine", "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %j %%') }} {{ strftime_now('%-d %B') }}", "{{ dict(a=1, b=2) }} {{ dict([['x', 1]]) }} {{ dict(d, b=9) }}", "{{ namespace(a=1).a }}", "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", "{{ range(2, 5)|list|tojson }}", "{{ dict(1) }}", "{{ range() }}",
]

CASES = {"whitespace": WHITESPACE, "literals": LITERALS, "operators": OPERATORS, "access": ACCESS, "strings": STRINGS, "filters": FILTERS,
         "json": JSON, "tests": TESTS, "statements": STATEMENTS, "macros": MACROS}
CASES = {name: [t for t in templates if t] for name, templates in CASES.items()}

# Chats whose content comes as parts, for templates that go through parts ("parts") and for those that want a string.
PARTS_MESSAGES = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                  {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "What is "}, {"type": "text", "text": "2+2?\n"}]},
                  {"role": "assistant", "content": "Zürich 4"}, {"role": "user", "content": [{"type": "text", "text": "why"}]}]
PARTS = [
    ("string", "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
    ("string", "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token }}{% endfor %}"),
    ("string", "{% set system = messages[0]['content'] %}{{ system|upper }}{% for m in messages[1:] %}{{ m['content'].split('+')|join('plus') }};{% endfor %}"),
    ("string", "{% macro turn(role, text) %}<{{ role }}>{{ text }}</{{ role }}>{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}"),
    ("string", "{% for m in messages %}{% for line in m.content.splitlines() %}> {{ line }}\n{% endfor %}{% endfor %}"),
    ("string", "{% for m in messages %}{% if m.content %}{{ m.content }}{% endif %}{% for c in m.content_parts or [] %}{{ c.text }}{% endfor %}{% endfor %}"),
    ("parts", "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}{% endfor %}{% endif %}{% endfor %}"),
    ("parts", "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}|{% endfor %}{% endif %}{% endfor %}"),
    ("parts", "{% for m in messages %}{% set content = m.content %}{% if content is not string %}{% for c in content[1:] %}{{ c.text }}{% endfor %}{{ content[0].text }}{% endif %}{% endfor %}"),
    ("parts", "{% macro render(content) %}{% if content is string %}{{ content }}{% else %}{% for c in content %}({{ c.text }}){% endfor %}{% endif %}{% endmacro %}{% for m in messages %}{{ render(m.content) }}{% endfor %}"),
    ("parts", "{% macro inner(x) %}{% for c in x %}{{ c.text or c }},{% endfor %}{% endmacro %}{% macro outer(a, b) %}{{ inner(x=b) }}{% endmacro %}{% for m in messages %}{{ outer(1, m.get('content')) }}{% endfor %}"),
    ("parts", "{% for m in messages %}{% with c = m.content or [] %}{% if c is not string %}{{ c | map(attribute='text') | join('+') }}{% endif %}{% endwith %}{% endfor %}"),
    ("parts", "{% for m in messages if m.content is not string %}{{ m.content[0]['text'] }}/{% endfor %}"),
]
