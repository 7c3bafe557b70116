#!/usr/bin/env bash
# Installs what building and testing Baton needs on Debian 12: packages by apt, Python clients of the
# end-to-end tests by pip into .venv. A no-op when all is there. `--python` adds the test clients, `--clang` what
# sanitizers and fuzzing need.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build make ccache pkg-config python3 python3-pip python3-venv curl ca-certificates
  libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libssl-dev openssl
  libfmt-dev libspdlog-dev libcli11-dev libpcre2-dev libutf8proc-dev
  libfabric-dev libgtest-dev libgmock-dev libbenchmark-dev
)
if [[ "${1:-}" == --clang ]]; then packages+=(clang libclang-rt-14-dev); fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  sudo=""
  if [[ $(id -u) != 0 ]]; then sudo=sudo; fi
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [[ "${1:-}" == --python ]]; then
  stamp=.venv/.installed-$(sha256sum tests/requirements.txt | cut -c1-16)
  if [[ ! -e $stamp ]]; then
    echo "setup: Python test clients into .venv"
    rm -rf .venv
    /usr/bin/python3 -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt
    touch "$stamp"
  fi
fi
