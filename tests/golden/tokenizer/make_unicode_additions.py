#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_additions.inc: characters that Hugging Face `tokenizers` (its regex
engine, Unicode 16) classifies and PCRE2 10.42 (Unicode 14) still holds for unassigned, with a
stand-in of the same general category, script group and UTF-8 length.

    pip install tokenizers==0.23.3      # run with a Python whose unicodedata is 14.0 (3.11)
    python3 make_unicode_additions.py > ../../../src/tokenizer/unicode_additions.inc
"""
import sys
import unicodedata

from tokenizers import Regex, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
NEW = [c for c in range(0x80, 0x110000)
       if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) == "Cn"]
CATEGORIES = ["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
              "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So"]
# (category, UTF-8 length) -> an old character to stand for the new ones. DeepSeek's patterns list
# code point ranges; no stand-in may be inside of one when the new character is outside, or so.
STAND_INS = {("Lu", 3): 0x10C7, ("Ll", 3): 0x1C80, ("Lm", 3): 0x1D2C, ("Lo", 3): 0x0C85,
             ("Mn", 3): 0x0ACD, ("Mc", 3): 0x0C82, ("Po", 3): 0x1B5A, ("So", 3): 0x2400,
             ("Lu", 4): 0x10570, ("Ll", 4): 0x10597, ("Lm", 4): 0x10781, ("Lo", 4): 0x10000,
             ("Mn", 4): 0x10A01, ("Mc", 4): 0x11000, ("Nd", 4): 0x104A0, ("Nl", 4): 0x10140,
             ("No", 4): 0x10107, ("Po", 4): 0x10100, ("Pd", 4): 0x10EAD, ("So", 4): 0x1F300,
             ("Sm", 4): 0x1D6C1, ("Sc", 4): 0x11FDD, ("Sk", 4): 0x1F3FB, ("Han", 4): 0x20000,
             ("Han", 3): 0x3400}


def members(pattern):
    remove = pre_tokenizers.Split(Regex(pattern), "removed")
    return {c for c in NEW if not remove.pre_tokenize_str(chr(c))}


han = members(r"\p{Han}")
stand_in = {}
for category in CATEGORIES:
    for c in members(r"\p{%s}" % category):
        length = len(chr(c).encode())
        key = ("Han", length) if c in han and category == "Lo" else (category, length)
        target = STAND_INS[key]
        if 0xA7C0 <= c <= 0xA7FF:  # outside of the range U+0800-U+4E00
            target = {"Lu": 0xA7C9, "Ll": 0xA7CA}[category]
        assert unicodedata.category(chr(target)) == category and len(chr(target).encode()) == length
        stand_in[c] = target

ranges = []
for c in sorted(stand_in):
    if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == stand_in[c]:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, stand_in[c]])
print("// Made by tests/golden/tokenizer/make_unicode_additions.py: first, last, stand-in.")
line = ""
for first, last, target in ranges:
    item = "{0x%X, 0x%X, 0x%X}, " % (first, last, target)
    if len(line) + len(item) > 100:
        print(line.rstrip())
        line = ""
    line += item
print(line.rstrip())
print(f"{len(ranges)} ranges, {len(stand_in)} characters", file=sys.stderr)
