#!/usr/bin/env bash
# Derives constraints.txt from setup.py, and the test's Airflow from its one version; versions that
# still fit stay as they are.
set -euo pipefail

readonly AIRFLOW=apache-airflow==3.3.2

cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/uv pip compile --quiet setup.py --all-extras --python-version 3.11 \
  --annotation-style line --no-header --output-file constraints.txt
{
  echo '# Every version that a fresh machine installs. Written by `make lock`; direct dependencies'
  echo '# and the reasons for their pins stand in setup.py.'
  cat constraints.txt
} >constraints.new
mv constraints.new constraints.txt

readonly list=tools/airflow-constraints.txt
[[ ! -f $list ]] || cp "$list" airflow.new
.venv/bin/uv pip compile --quiet - --python-version 3.11 --annotation-style line --no-header \
  --output-file airflow.new <<<"$AIRFLOW"
{
  echo '# The Airflow that the DAG is tested in. Written by `make lock`; its version: tools/lock.sh.'
  cat airflow.new
} >"$list"
rm airflow.new
