#!/usr/bin/env bash
# Makes what a checkout needs: .venv from constraints.txt, and jars/.
# Usage: tools/setup.sh run|dev|bench|gpu|airflow ...
# `airflow` is an Airflow to test the DAG in or to try it, in .venv-airflow: it must not share ours.
# Takes milliseconds when nothing changed; two at once take turns; an interrupted one goes on.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) # as spark-submit.sh names it
cd "$root"
source tools/prerequisites.sh
readonly LOG=$root/.cache/setup.log
readonly START_UP=tools/compiled_pyspark.pth # each start of the environment's Python heeds it
readonly -A EXTRAS=([run]=train [dev]=train,dev [bench]=train,bench [gpu]=train,gpu)

main() {
  local profile
  for profile in "$@"; do
    if [[ $profile == airflow ]]; then
      set_up_airflow
    else
      is_ready "$profile" || set_up "$profile"
    fi
  done
}

is_ready() {
  environment_is_current "$1" && jars_are_current jars || return 1
  ! needs_hdfs "$1" || jars_are_current jars-test
}

# The tests and the benchmark start an HDFS of their own.
needs_hdfs() { [[ $1 == dev || $1 == bench ]]; }

set_up() {
  take_turn
  environment_is_current "$1" || make_environment "$1"
  jars_are_current jars || fetch_jars jars
  ! needs_hdfs "$1" || jars_are_current jars-test || fetch_jars jars-test
  exec 9>&-
}

take_turn() {
  mkdir -p .cache
  exec 9>.cache/setup.lock
  flock --nonblock 9 || { say 'Another set-up runs here; waiting for it.'; flock 9; }
  : >"$LOG"
}

# What the environment was made from, and where: its scripts hold absolute paths.
wanted() { cat setup.py constraints.txt "$START_UP" <(pwd) | sha256sum; }

environment_is_current() {
  local stamp=.venv/.captionlake-$1
  [[ -f $stamp && $(<"$stamp") == "$(wanted)" ]]
}

make_environment() {
  local extras=${EXTRAS[$1]:-} started=$SECONDS python
  [[ -n $extras ]] || fail "There is no set-up '$1'. Use run, dev, bench, gpu or airflow."
  python=$(find_python)
  check_disk "$root"
  say "Setting up .venv ($extras) from constraints.txt; the first time takes a minute or two."
  [[ -f .venv/.made-in && $(<.venv/.made-in) == "$root" ]] || rm -rf .venv
  [[ -x .venv/bin/python ]] || "$python" -m venv .venv >>"$LOG" 2>&1 || explain_failure
  pwd >.venv/.made-in
  rm -f .venv/.captionlake-* # of other profiles, whose packages change with these
  install_packages "$extras" || explain_failure
  cp "$START_UP" "$(dirname "$SPARK_FOLDER")"
  wanted | tee .venv/.captionlake-run >".venv/.captionlake-$1" # each holds what run needs
  say "The environment is ready after $((SECONDS - started)) s."
}

# uv installs in a third of pip's time; pip follows where uv can't (a mirror set in pip.conf).
install_packages() {
  local pip=(.venv/bin/python -m pip --disable-pip-version-check install --retries 1)
  "${pip[@]}" -c constraints.txt uv >>"$LOG" 2>&1 || return 1
  .venv/bin/uv pip install --python .venv/bin/python --no-progress -c constraints.txt \
    --build-constraints constraints.txt -e ".[$1]" >>"$LOG" 2>&1 ||
    PIP_CONSTRAINT=$root/constraints.txt "${pip[@]}" -e ".[$1]" >>"$LOG" 2>&1
}

set_up_airflow() {
  local list=tools/airflow-constraints.txt stamp=.venv-airflow/.captionlake started=$SECONDS
  airflow_is_current() { [[ -f $stamp && $(<"$stamp") == "$(cat "$list" <(pwd) | sha256sum)" ]]; }
  ! airflow_is_current || return 0
  take_turn
  if ! airflow_is_current; then
    say "Setting up .venv-airflow from $list."
    rm -rf .venv-airflow
    "$(find_python)" -m venv .venv-airflow >>"$LOG" 2>&1 || explain_failure
    fill_airflow "$list" || explain_failure
    cat "$list" <(pwd) | sha256sum >"$stamp"
    say "Airflow is ready after $((SECONDS - started)) s."
  fi
  exec 9>&-
}

fill_airflow() {
  local pip=(.venv-airflow/bin/python -m pip --disable-pip-version-check install --retries 1)
  "${pip[@]}" -c constraints.txt uv >>"$LOG" 2>&1 || return 1
  .venv-airflow/bin/uv pip install --python .venv-airflow/bin/python --no-progress -r "$1" \
    >>"$LOG" 2>&1 || "${pip[@]}" -r "$1" >>"$LOG" 2>&1
}

# A jar list holds its Maven coordinates, what to leave out, and each file's SHA-256.
jars_are_current() {
  local stamp=jars/.$1
  [[ -f $stamp && $(<"$stamp") == "$(sha256sum <"tools/$1.txt")" ]]
}

jar_folder() { if [[ $1 == jars ]]; then echo jars; else echo "jars/${1#jars-}"; fi; }
jar_setting() { sed -n "s/^# $2: //p" "tools/$1.txt"; }

# Spark's own resolver downloads, so that Maven isn't needed; only files with the right hash stay.
fetch_jars() {
  local list=$1 folder ivy=$root/.cache/ivy
  folder=$(jar_folder "$list")
  check_java
  say "Fetching the jars of tools/$list.txt."
  rm -rf "$ivy"
  mkdir -p "$folder" "$ivy"
  printf 'pass\n' >"$ivy/nothing.py"
  SPARK_HOME=$root/$SPARK_FOLDER PYSPARK_PYTHON=$root/.venv/bin/python \
    "$SPARK_FOLDER/bin/spark-submit" --master 'local[1]' --conf "spark.jars.ivy=$ivy" \
    --packages "$(jar_setting "$list" packages)" \
    --exclude-packages "$(jar_setting "$list" exclude)" "$ivy/nothing.py" >>"$LOG" 2>&1 ||
    explain_failure
  (cd "$ivy/jars" && grep -v '^#' "$root/tools/$list.txt" | sha256sum --check --quiet) \
    >>"$LOG" 2>&1 || fail "A fetched jar isn't the one of tools/$list.txt; see $LOG."
  find "$folder" -maxdepth 1 -name '*.jar' -delete # of other versions
  (cd "$ivy/jars" && mv -t "$root/$folder" $(awk '!/^#/ { print $2 }' "$root/tools/$list.txt"))
  rm -rf "$ivy"
  sha256sum <"tools/$list.txt" >"jars/.$list"
}

explain_failure() {
  if grep -qiE 'No space left|Disk quota' "$LOG"; then
    fail "The disk is full ($root). Free some space and run the command again."
  elif grep -qiE 'Temporary failure in name|Name or service not known|Network is unreachable|dns error|NewConnectionError|ConnectTimeout|timed out|CERTIFICATE_VERIFY|certificate|ProxyError|UnresolvedDependency|unresolved dependency|Failed to fetch' "$LOG"; then
    fail "The package index or Maven repository can't be reached. Check the network and the proxy \
settings (HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT, SSL_CERT_FILE); details are in $LOG."
  fi
  fail "The set-up failed: $(tail -n 1 "$LOG") Details are in $LOG."
}

main "$@"
