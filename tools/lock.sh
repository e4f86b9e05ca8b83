#!/usr/bin/env bash
# Derives constraints.txt from setup.py; versions that still fit stay as they are.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/uv pip compile --quiet setup.py --all-extras --python-version 3.11 \
  --annotation-style line --no-header --output-file constraints.txt
{
  echo '# Every version that a fresh machine installs. Written by `make lock`; direct dependencies'
  echo '# and the reasons for their pins stand in setup.py.'
  cat constraints.txt
} >constraints.new
mv constraints.new constraints.txt
