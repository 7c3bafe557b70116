#!/usr/bin/env python3
"""Writes tokenizer.json (a byte-level BPE of 1,000 words, trained on the text below) and cases.json:
the ids that Hugging Face `tokenizers` gives for a list of texts under the pre-tokenizers of several
model families (each case lists the top-level keys of tokenizer.json that it replaces), and lossy
UTF-8 decoding by Python.

    pip install tokenizers==0.23.3 && python3 make_golden.py
"""
import json
import os
import random
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre, processors

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "oracle", "tokenizer"))
import compare  # noqa: E402

WORDS = """the of and to in a is that for it as was with be by on not he I this are or his from at
which but have an had they you were their one all we can her has there been if more when will would
who so no said what up its about into than them only other time new some could these two may then do
first any my now such like our over man me even most made after also did many off before must well
through years where much your way down should because long each just state those people too how good
world year work still between life being under last never day same another know while might us great
old come since against go came right used take three themselves server model prefill decode router
token page cache layer request return include const static void int std string vector span uint8_t
size_t namespace template auto if else while for switch case break continue struct class public
private def self import None True False lambda print len range async await function let var null""".split()
OTHER = ["naïve façade Straße über größer café señor niño", "Привет, как дела? Это хорошо и просто.",
         "日本語のテキストを分割する。中文文本也要分词。", "한국어 문장을 나눕니다", "مرحبا بالعالم كيف الحال",
         "नमस्ते दुनिया", "Ελληνικά γράμματα", "🙂 👩‍👩‍👧‍👦 🇩🇪", "I'm you're they've we'll don't it's he'd",
         "for (int i = 0; i < n; ++i) {\n  sum += x[i] * y[i];\n}\n", "\tif (!ok) {\n\t\treturn;\n\t}\n",
         "def f(x):\n    return x ** 2  # square\n\n\n", "https://example.com/a?b=c&d=%20e#f",
         "2026-11-22 12:00:00 3.14159 1,000,000 0x7fff", "camelCase snake_case kebab-case SCREAMING"]

TEXTS = ["", " ", "\n", "Hello, world!", " leading", "trailing ", "tabs\tand\nnew\r\n\r\n\n  lines",
         "numbers 0 12 345 6789 3.14159 1,000,000", "don't I'LL WE'VE it'ſ", "Ünïcödé naïve façade",
         "日本語のテキストと中文文本123", "Привет, как дела?", "مرحبا بالعالم", "नमस्ते दुनिया", "한국어 문장",
         "👩‍👩‍👧‍👦 🇩🇪", "e\u0301a\u0323\u0301 \u212b \ufb01", "    def f(x):\n        return x**2\n",
         "<|user|>hi<|end|>\n", "a <mask> b", "<right>   c", "whole awhole whole.", "café cafe\u0301",
         "a" * 200, "the server " * 30, "x" + " " * 100 + "y", "\n" * 9 + "z", "!!!???...---===",
         "std::span<const uint8_t>&& x = {};", "\u180e\u200b\u2028 \u0085\ufeff \u3000\u00a0",
         "\u0000\u0001\u007f", "Ⅷ ¾ ² ౪ 𝟘𝟙", "HTTPServer parseXMLThing iPhone", "/path/to//file.txt",
         "\U0001e4d0\U00031350\ua7cb\U0001fae8 \U00010d40\U00010d4e", "한\u1112\u1161\u11ab"]

ADDED = [AddedToken("<|begin|>", special=True, normalized=False),
         AddedToken("<|end|>", special=True, normalized=False),
         AddedToken("<|user|>", special=True, normalized=False),
         AddedToken("<mask>", special=True, lstrip=True, normalized=False),
         AddedToken("<right>", special=True, rstrip=True, normalized=False),
         AddedToken("whole", single_word=True, normalized=False),
         AddedToken("café", normalized=True), AddedToken("  ", normalized=False)]


def corpus():
    rng = random.Random(7)
    for _ in range(3000):
        line = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 12)))
        yield line[:1].upper() + line[1:] + rng.choice([".\n", ", ", "!", "?", ";\n", " "])
    for line in OTHER * 20:
        yield line


def train():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = compare.gpt2_bytes()
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=pre.ByteLevel.alphabet(),
                                  show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    made.decoder = decoders.ByteLevel()
    made.add_tokens(ADDED)
    return made


def make_cases(base):
    start = json.loads(base.to_str())
    cases = []
    for name in ("gpt2", "gpt2-prefix", "smollm", "llama3", "qwen2", "gpt4o", "kimi", "deepseek-v3",
                 "deepseek-llm", "falcon", "words-next", "space-previous", "contiguous-inverted"):
        shape, how, _ = compare.SHAPES[name]
        made = Tokenizer.from_str(json.dumps(start))
        made.pre_tokenizer = shape
        if how.get("nfc"):
            made.normalizer = normalizers.NFC()
        if how.get("bos"):
            begin = made.token_to_id("<|begin|>")
            made.post_processor = processors.TemplateProcessing(
                single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
        whole = json.loads(made.to_str())
        if how.get("ignore_merges"):
            whole["model"]["ignore_merges"] = True
            made = Tokenizer.from_str(json.dumps(whole))
        replace = {k: v for k, v in whole.items() if k != "model" and v != start[k]}
        plain = [made.encode(t, add_special_tokens=True).ids for t in TEXTS]
        made.encode_special_tokens = True
        as_text = [made.encode(t, add_special_tokens=False).ids for t in TEXTS]
        cases.append({"name": name, "replace": replace,
                      "ignore_merges": bool(how.get("ignore_merges")), "ids": plain,
                      "ids_specials_as_text": {str(i): ids for i, ids in enumerate(as_text)
                                               if ids != plain[i]}})
    return cases


def lossy():
    rng = random.Random(11)
    leads = [0x41, 0x80, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF]
    tails = [0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0x20]
    out = []
    for _ in range(150):
        data = bytes(rng.choice(leads if rng.random() < 0.4 else tails)
                     for _ in range(rng.randrange(1, 9)))
        out.append([data.hex(), data.decode("utf-8", "replace")])
    return out


def main():
    base = train()
    with open(os.path.join(HERE, "tokenizer.json"), "w", encoding="utf-8") as stream:
        json.dump(json.loads(base.to_str()), stream, ensure_ascii=False, separators=(",", ":"))
        stream.write("\n")
    golden = {"oracle": "tokenizers 0.23.3", "texts": TEXTS, "cases": make_cases(base),
              "lossy_utf8": lossy()}
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as stream:
        json.dump(golden, stream, separators=(",", ":"))
        stream.write("\n")


if __name__ == "__main__":
    main()
