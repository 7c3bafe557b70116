#!/usr/bin/env python3
"""Holds the tree to the project's rules: include directions, header hygiene, file sizes, names in the walk-through.

Run by `make tidy` and as the test `tidy`. Prints one line per finding; exit 1 when there is any.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# What each folder may include besides itself and common. Dependencies point down only.
ALLOWED = {
    "common": set(),
    "api": set(),
    "http": set(),
    "tokenizer": set(),
    "kernels": set(),
    "transfer": set(),
    "model": {"kernels"},
    "engine": {"model", "kernels", "api"},
    "disagg": {"engine", "transfer", "http", "api", "kernels"},
    "server": {"disagg", "engine", "tokenizer", "http", "api", "model", "kernels", "transfer"},
    "router": {"http", "api"},
    "bench": {"engine", "transfer", "http", "api", "model", "kernels"},
    "cli": {"server", "router", "bench", "disagg", "engine", "tokenizer", "http", "api", "model", "kernels", "transfer"},
}
# Inside kernels, the backends do not see one another.
KERNEL_BACKENDS = {"reference", "cpu", "cuda"}
MAX_LINES = 1000


def own_includes(text):
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M)


def check_includes(path, text, findings):
    parts = path.relative_to(SRC).parts
    module = parts[0]
    if module not in ALLOWED:
        findings.append(f"{path}: folder {module} is not in the dependency table")
        return
    for include in own_includes(text):
        target = include.split("/")
        if not (SRC / include).exists():
            findings.append(f"{path}: include \"{include}\" is not from the root of src/")
        elif target[0] not in ALLOWED[module] | {module, "common"}:
            findings.append(f"{path}: {module} must not include {target[0]} ({include})")
        elif module == "kernels" and len(parts) > 2 and not path.name.endswith("_test.cpp"):
            if len(target) > 2 and target[1] in KERNEL_BACKENDS - {parts[1]}:
                findings.append(f"{path}: backend {parts[1]} must not include {include}")


def check_file(path, text, findings):
    if path.suffix == ".h" and "#pragma once" not in text:
        findings.append(f"{path}: no #pragma once")
    if path.suffix == ".h" and not text.startswith("//"):
        findings.append(f"{path}: a header begins with a comment that says what it is for")
    if text.count("\n") > MAX_LINES:
        findings.append(f"{path}: {text.count(chr(10))} lines; past {MAX_LINES} it holds two subjects")
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            findings.append(f"{path}:{number}: {line.strip()[:80]}")
        if "\t" in line:
            findings.append(f"{path}:{number}: tab")


def check_walkthrough(findings):
    """Every `path` and `path:Name` in backquotes of the walk-through must exist."""
    page = ROOT / "docs" / "request-walkthrough.md"
    for place in re.findall(r"`(src/[\w/.]+(?:::?\w+)?)`", page.read_text()):
        name, _, symbol = place.partition(":")
        symbol = symbol.lstrip(":")
        files = [ROOT / name] if (ROOT / name).suffix else [ROOT / (name + s) for s in (".h", ".cpp")]
        files = [f for f in files if f.exists()]
        if not files:
            findings.append(f"{page.name}: {name} does not exist")
        elif symbol and not any(symbol in f.read_text() for f in files):
            findings.append(f"{page.name}: {symbol} is not in {name}")


def main():
    findings = []
    for path in sorted(SRC.rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        text = path.read_text()
        check_includes(path, text, findings)
        check_file(path, text, findings)
    check_walkthrough(findings)
    for finding in findings:
        print(finding.replace(str(ROOT) + "/", ""))
    print(f"tidy: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
