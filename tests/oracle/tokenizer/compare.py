#!/usr/bin/env python3
"""Compares ids, decoded text and streamed text with Hugging Face `tokenizers`: the vocabulary and
merges of a GGUF file under the pre-tokenizers of many model families, on thousands of texts.

    pip install tokenizers==0.23.3 gguf
    ninja -C build/release baton_tokenizer
    tests/oracle/tokenizer/compare.py --gguf models/SmolLM2-135M-Instruct.Q4_1.gguf [--texts DIR]

Exits with 1 when anything differs. `driver.cpp` is built beside the libraries on the first run.
"""
import argparse
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" + "\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[" + "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+"
DEEPSEEK_LETTERS = (
    "\\s?["
    "\u0041-\u005a\u0061-\u007a\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf"
    "\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386"
    "\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d"
    "\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
    "]+")


def split(pattern, behavior="isolated", invert=False):
    return pre.Split(Regex(pattern), behavior, invert)


def plain_bytes():
    return pre.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt2_bytes(**options):
    return pre.ByteLevel(**{"add_prefix_space": False, "use_regex": True, **options})


# name -> (pre-tokenizer, what else differs, GGUF names that must give the same ids)
SHAPES = {
    "gpt2": (gpt2_bytes(), {}, ["gpt-2"]),
    "gpt2-prefix": (gpt2_bytes(add_prefix_space=True), {}, []),
    "smollm": (pre.Sequence([pre.Digits(True), gpt2_bytes()]), {}, ["smollm", "starcoder"]),
    "llama3": (pre.Sequence([split(LLAMA3), plain_bytes()]),
               {"ignore_merges": True, "bos": True}, ["llama-bpe"]),
    "qwen2": (pre.Sequence([split(QWEN2), plain_bytes()]), {"nfc": True}, ["qwen2"]),
    "qwen35": (pre.Sequence([split(QWEN35), plain_bytes()]), {"nfc": True}, ["qwen35"]),
    "gpt4o": (pre.Sequence([split(GPT4O), plain_bytes()]), {}, ["gpt-4o"]),
    "kimi": (pre.Sequence([split(KIMI), plain_bytes()]), {}, ["kimi-k2"]),
    "deepseek-v3": (pre.Sequence([split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"),
                                  split(DEEPSEEK), plain_bytes()]), {}, ["deepseek-v3"]),
    "deepseek-llm": (pre.Sequence([split("[\r\n]"), split(DEEPSEEK_LETTERS),
                                   split("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"), split("\\s+$"),
                                   split("[一-龥\u0800-一가-\ud7ff]+"), pre.Digits(True),
                                   plain_bytes()]), {}, ["deepseek-llm"]),
    "deepseek-coder": (pre.Sequence([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                                     split("[一-龥\u0800-一가-\ud7ff]+"), pre.Digits(True),
                                     plain_bytes()]), {}, ["deepseek-coder"]),
    "falcon": (pre.Sequence([pre.Punctuation("contiguous"), gpt2_bytes(), pre.Digits(False),
                             split("[0-9][0-9][0-9]")]), {}, []),
    "bloom": (pre.Sequence([split(" ?[^(\\s|.,!?…。，、।۔،)]+"), plain_bytes()]), {}, ["bloom"]),
    "whitespace": (pre.Sequence([pre.Whitespace(), gpt2_bytes()]), {}, []),
    "whitespace-split": (pre.Sequence([pre.WhitespaceSplit(), plain_bytes()]), {}, []),
    "words-removed": (pre.Sequence([split(r"\w+", "removed"), plain_bytes()]), {}, []),
    "words-next": (pre.Sequence([split(r"\W", "merged_with_next"), plain_bytes()]), {}, []),
    "space-previous": (pre.Sequence([pre.Split(" ", "merged_with_previous"), plain_bytes()]),
                       {}, []),
    "contiguous-inverted": (pre.Sequence([split(r"[\p{P}\s]", "contiguous", True),
                                          plain_bytes()]), {}, []),
    "inverted-removed": (pre.Sequence([split(r"\p{L}+", "removed", True), plain_bytes()]), {}, []),
    "empty-matches": (pre.Sequence([split(r"(?=(\d{3})+(?!\d))|x*"), plain_bytes()]), {}, []),
    "line-ends": (pre.Sequence([split(r"^\s+|\s+$|\A.|.\z"), plain_bytes()]), {}, []),
    "hex": (pre.Sequence([split(r"\h+|[\u0400-\u04ff]+|\S\b"), plain_bytes()]), {}, []),
}

ADDED = [AddedToken("<|user|>", special=True), AddedToken("<|user|>x", special=True),
         AddedToken("<mask>", special=True, lstrip=True),
         AddedToken("<right>", special=True, rstrip=True),
         AddedToken("whole", single_word=True, normalized=False), AddedToken("  ", normalized=False),
         AddedToken("café", normalized=True), AddedToken("<tool>", normalized=True),
         AddedToken("é", normalized=False), AddedToken("<né>", special=True, normalized=True)]


def read_gguf(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields
    return [fields["tokenizer.ggml." + key].contents() for key in ("tokens", "merges", "token_type")]


def make_tokenizer(tokens, merges, types, shape, options, extra):
    model = models.BPE({t: i for i, t in enumerate(tokens)},
                       [tuple(m.split(" ")) for m in merges],
                       ignore_merges=options.get("ignore_merges", False))
    made = Tokenizer(model)
    made.pre_tokenizer = shape
    made.decoder = decoders.ByteLevel()
    if options.get("nfc"):
        made.normalizer = normalizers.NFC()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False)
                             for t, kind in zip(tokens, types) if kind == 3])
    if extra:
        made.add_tokens(ADDED)
    if options.get("bos"):
        made.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{tokens[1]} $A",
                                          special_tokens=[(tokens[1], 1)])])
    return made


def make_texts(directories, rng):
    texts = ["", " ", "\n", "a", "   leading", "trailing   ", "\t\tif x:\r\n\r\n\treturn\u00a0y",
             "I'm we'LL they'D it'ſ K's", "x" * 3000, "ab" * 5000, " " * 4000 + "x", "\n" * 700,
             "0123456789" * 50, "é" * 500, "e\u0301\u0323" * 200, "한국어 조선말", "日本語テキスト", "नमस्ते दुनिया",
             "สวัสดีชาวโลก", "ﬁ ﬀ Å Ω K \u0344 \u0f73", "👩‍👩‍👧‍👦🇩🇪🏳️‍🌈", "\u180e\u200b\u2028\u2029\u0085\ufeff",
             "<|im_start|>user\nhi<|im_end|>", "<|user|>x <|user|>", "a <mask> b <right>  c whole awhole",
             "cafe\u0301 café <tool> </s>", "<ne\u0301> <né>", "f(x)=∑ᵢ xᵢ²", "\u0000\u0001\u0004\u007f", "Ⅷ ¾ ² ౪ 𝟘𝟙"]
    files = []
    for directory in directories:
        for extension in ("py", "h", "cpp", "md", "json", "html", "rst", "txt", "c", "js", "po"):
            files += glob.glob(os.path.join(directory, "**", "*." + extension), recursive=True)
    files = sorted(f for f in files if os.path.isfile(f))
    rng.shuffle(files)
    for name in files[:1500]:
        with open(name, "rb") as stream:
            body = stream.read(200000).decode("utf-8", "ignore")
        for _ in range(3):
            at = rng.randrange(len(body) + 1)
            texts.append(body[at:at + rng.choice([5, 20, 80, 300, 2000])])
    alphabets = [range(0x20, 0x7F), range(0x80, 0x250), range(0x300, 0x370), range(0x370, 0x600),
                 range(0x600, 0x700), range(0x900, 0xD00), range(0xE00, 0x1000),
                 range(0x1100, 0x1200), range(0x1E00, 0x2000), range(0x2000, 0x2100),
                 range(0x2100, 0x2C00), range(0x3000, 0x3100), range(0x4E00, 0x9FFF),
                 range(0xA640, 0xA800), range(0xAC00, 0xD7A4), range(0xFB00, 0xFB50),
                 range(0x10000, 0x11000), range(0x11000, 0x12000), range(0x1D400, 0x1D800),
                 range(0x1E000, 0x1F000), range(0x1F300, 0x1FC00), range(0x20000, 0x32400)]
    everything = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    glue = [" ", " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "1", "23", ".", "!?", "a", "Z", "é",
            "<tool>", "<|im_end|>", "<mask>", "whole", "/"]
    for i in range(6000):
        pool = everything if i % 3 == 0 else rng.choice(alphabets)
        mixed = []
        for _ in range(rng.randrange(1, 40)):
            mixed.append(chr(rng.choice(pool)) if rng.random() < 0.6 else rng.choice(glue))
        texts.append("".join(mixed))
    return texts


def has_new_marks(text):
    """Whether `text` has punctuation that HF's Punctuation (Unicode 8) does not know."""
    marks = set(re.findall(r"[\u0080-\U0010ffff]", text))
    known = pre.Punctuation("removed")
    by_pattern = split(r"\p{P}", "removed")
    return any(bool(known.pre_tokenize_str(c)) != bool(by_pattern.pre_tokenize_str(c))
               for c in marks)


class Driver:
    def __init__(self, arguments):
        self.process = subprocess.Popen([driver_path(), *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, requests):
        import threading
        lines = "".join(json.dumps(r) + "\n" for r in requests)

        def write():
            self.process.stdin.write(lines)
            self.process.stdin.close()
        thread = threading.Thread(target=write)
        thread.start()
        # Not iteration over splitlines(): JSON lines may hold U+2028.
        answers = [json.loads(line) for line in self.process.stdout.read().split("\n") if line]
        thread.join()
        if self.process.wait() != 0 or len(answers) != len(requests):
            sys.exit("the driver failed")
        return answers


def driver_path():
    build = os.path.join(ROOT, "build", "release")
    out = os.path.join(build, "tokenizer_driver")
    source = os.path.join(HERE, "driver.cpp")
    inputs = [source, os.path.join(build, "libbaton_tokenizer.a")]
    if not os.path.exists(out) or any(os.path.getmtime(i) > os.path.getmtime(out) for i in inputs):
        subprocess.run(["g++", "-std=c++20", "-O2", "-I", os.path.join(ROOT, "src"), source, "-o",
                        out, inputs[1], os.path.join(build, "libbaton_common.a"), "-lpcre2-8",
                        "-lutf8proc", "-lboost_json", "-lboost_container", "-lfmt", "-lspdlog",
                        "-lpthread"], check=True)
    return out


def compare(name, oracle, arguments, texts, rng, modes):
    cases = [(text, add, parse) for text in texts for add, parse in modes]
    expected = []
    for text, add, parse in cases:
        oracle.encode_special_tokens = not parse
        expected.append(oracle.encode(text, add_special_tokens=add).ids)
    answers = Driver(arguments).ask([{"text": t, "add": a, "parse": p} for t, a, p in cases])
    wrong = 0
    for case, want, got in zip(cases, expected, answers):
        ids = got.get("ids")
        if ids != want:
            wrong += 1
            if wrong <= 3:
                at = next((i for i, (a, b) in enumerate(zip(want, ids or [])) if a != b), 0)
                print(f"  {name}: {case!r}\n    from {at} want {want[at:at + 20]}\n"
                      f"    got  {ids[at:at + 20] if ids else got}")
    size = oracle.get_vocab_size()
    id_lists = [ids for ids in expected[::7]]
    for _ in range(1500):
        id_lists.append([rng.randrange(size) if rng.random() < 0.3 else rng.randrange(300)
                         for _ in range(rng.randrange(1, 12))])
    decodes = [(ids, skip) for ids in id_lists for skip in (False, True)]
    texts_out = [oracle.decode(ids, skip_special_tokens=skip) for ids, skip in decodes]
    answers = Driver(arguments).ask([{"ids": ids, "skip": skip} for ids, skip in decodes])
    for (ids, skip), want, got in zip(decodes, texts_out, answers):
        if got["text"] != want or got["streamed"] != want:
            wrong += 1
            if wrong <= 6:
                print(f"  {name}: decode {ids} skip={skip}\n    want {want!r}\n    got  {got!r}")
    print(f"{name}: {len(cases)} encodings, {len(decodes)} decodings, {wrong} differ", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--texts", action="append", default=[], help="folder of texts and sources")
    parser.add_argument("--only", help="one shape by name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", help="folder for the tokenizer.json files")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    tokens, merges, types = read_gguf(options.gguf)
    texts = make_texts(options.texts or ["/usr/share/doc", "/usr/lib/python3", "/usr/share"], rng)
    print(f"{len(texts)} texts, {sum(len(t.encode()) for t in texts)} bytes")
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        for name, (shape, how, gguf_names) in SHAPES.items():
            if options.only and name != options.only:
                continue
            oracle = make_tokenizer(tokens, merges, types, shape, how, extra=True)
            path = os.path.join(folder, name, "tokenizer.json")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            oracle.save(path)
            usable = [t for t in texts if name != "falcon" or not has_new_marks(t)]
            wrong += compare(name, oracle, [path], usable, rng,
                             [(True, True), (False, False)])
            bare = make_tokenizer(tokens, merges, types, shape, how, extra=False)
            for gguf_name in gguf_names:
                spec = os.path.join(folder, name, "spec.json")
                with open(spec, "w") as stream:
                    json.dump({"pre": gguf_name, "tokens": tokens, "merges": merges,
                               "types": [int(t) for t in types]}, stream)
                wrong += compare(f"{name} as gguf {gguf_name}", bare, ["--spec", spec], texts, rng,
                                 [(False, True), (False, False)])
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
