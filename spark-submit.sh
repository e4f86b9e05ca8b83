#!/usr/bin/env bash
# Sets up on first use, then runs one job of jobs/ under Spark. See --help.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
source "$root/tools/prerequisites.sh"
source "$root/tools/class_archive.sh"
readonly EXIT_USAGE=2
readonly WITHOUT_SPARK=' check_batch check_run manage_models ' # jobs that open no session

main() {
  split_arguments "$@"
  [[ -n $job ]] || { usage; exit "$wanted_exit"; }
  [[ -f $root/jobs/$job.py ]] && is_job "$root/jobs/$job.py" || refuse_job
  check_java
  "$root/tools/setup.sh" run || exit
  export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
  export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$root/.venv/bin/python}
  export PYSPARK_DRIVER_PYTHON=$root/.venv/bin/python
  export SPARK_HOME=$root/$SPARK_FOLDER
  unset PYTHONDONTWRITEBYTECODE # many images set it: each worker would compile pandas anew, seconds
  export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$root/conf}
  if needs_no_spark; then
    exec "$PYSPARK_DRIVER_PYTHON" "$root/jobs/$job.py" "${job_options[@]}"
  fi
  submit
}

usage() {
  cat <<'END'
Usage: ./spark-submit.sh [spark-submit options] JOB [--env NAME] [job options]

Options before JOB are Spark's (such as --master or --conf KEY=VALUE), those after it are the
job's: ./spark-submit.sh JOB --help. The first use sets up .venv and jars/ (a few minutes).

END
  list_jobs
  cat <<END

Environments (--env, files of conf/): $(environments)
Exit codes: 0 ok, 2 usage, 3 input, 4 model, 5 lake, 6 environment, 7 rejected share,
8 not reconciled, 9 claimed elsewhere, 143 terminated.
END
}

# A job is a file that can be run; jobs/ also holds what the jobs share.
is_job() { grep -q '^if __name__ == "__main__":' "$1"; }

list_jobs() {
  local file
  echo 'Jobs:'
  for file in "$root"/jobs/*.py; do
    if is_job "$file"; then
      printf '  %-22s %s\n' "$(basename "$file" .py)" "$(sed -n '1s/^"""\(.*[^"]\)"*$/\1/p' "$file")"
    fi
  done
}

environments() {
  local file
  for file in "$root"/conf/*.toml; do basename "$file" .toml; done | grep -vx common | paste -sd ' '
}

refuse_job() {
  say "spark-submit.sh: there is no job '$job'."
  list_jobs >&2
  exit "$EXIT_USAGE"
}

# Before JOB: Spark's options, of which all but a few flags take a value. After it: the job's.
split_arguments() {
  local option
  spark_options=() job_options=() job='' wanted_exit=$EXIT_USAGE deploy_mode=client
  extra_jars='' extra_archives='' extra_files=''
  while (($#)); do
    case $1 in
      -h | --help) wanted_exit=0 && return ;;
      # Spark takes one list of each: ours and the user's in one.
      --jars | --archives | --files) printf -v "extra_${1#--}" %s "${2:-}" && shift ;;
      --jars=* | --archives=* | --files=*)
        option=${1%%=*} && printf -v "extra_${option#--}" %s "${1#*=}"
        ;;
      -v | --verbose | --supervise | --load-spark-defaults | --*=*) spark_options+=("$1") ;;
      -*) spark_options+=("$1" "${2:-}") && shift ;;
      *) job=$(basename "$1" .py) && shift && job_options=("$@") && break ;;
    esac
    shift || break
  done
  [[ " ${spark_options[*]-} " =~ ' --deploy-mode'[\ =]cluster' ' ]] && deploy_mode=cluster
  return 0
}

needs_no_spark() {
  local option
  [[ $WITHOUT_SPARK != *" $job "* ]] || return 0
  for option in "${job_options[@]}"; do
    [[ $option != --help && $option != -h && $option != --print-config ]] || return 0
  done
  return 1
}

# The job's own parser judges --env; Spark's properties must be known before it runs.
environment() {
  local name=${CAPTIONLAKE_ENV:-local} previous='' option
  for option in "${job_options[@]}"; do
    [[ $previous != --env ]] || name=$option
    [[ $option != --env=* ]] || name=${option#--env=}
    previous=$option
  done
  printf '%s\n' "$name"
}

submit() {
  local jars archives=$extra_archives files=$extra_files options=()
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  "$PYSPARK_DRIVER_PYTHON" -m conf.environments "$(environment)" >"$scratch/spark.properties" || exit
  export CAPTIONLAKE_DRIVER_PID_FILE=$scratch/driver.pid
  export CAPTIONLAKE_STREAMS=/proc/$$/fd # the JVM would mix the driver's two streams into one pipe
  jars=$(printf '%s,' "$root"/jars/*.jar)$extra_jars
  options=(--properties-file "$scratch/spark.properties" --jars "${jars%,}")
  ! may_archive_classes || archive_classes
  ship_what_was_packed
  [[ -z $archives ]] || options+=(--archives "$archives")
  [[ -z $files ]] || options+=(--files "$files")
  if [[ $deploy_mode == client ]]; then
    options+=(--conf "spark.pyspark.driver.python=$PYSPARK_DRIVER_PYTHON")
  fi
  run_to_the_end "$SPARK_HOME/bin/spark-submit" "${options[@]}" "${spark_options[@]}" \
    "$root/jobs/$job.py" "${job_options[@]}"
}

# Executors whose Python lies in ./env can't see this checkout: they get what `make package` built,
# and so does a driver that runs beside them.
ship_what_was_packed() {
  local dist=$root/dist
  grep -q '^spark\.pyspark\.python \./env/' "$scratch/spark.properties" || return 0
  [[ -f $dist/env.tar.gz ]] ||
    fail "The environment '$(environment)' ships dist/, which isn't there. Run \`make package\` first."
  [[ -f $dist/.env-of && $(<"$dist/.env-of") == "$(requirements_key) "* ]] ||
    fail "dist/ was packed from other requirements than this checkout's. Run \`make package\` again."
  [[ $(environment) != *-gpu || " $(<"$dist/.env-of") " == *' gpu '* ]] ||
    fail "dist/ was packed for CPUs, without Keras. Run \`make package EXTRAS=gpu\`."
  "$root/tools/package.sh" --code # never older than the driver's own
  archives=$dist/env.tar.gz#env,$dist/captionlake.zip#code${archives:+,$archives}
  files=$dist/gpu_discovery.sh${files:+,$files}
  options+=(--conf spark.executorEnv.PYTHONPATH=code)
  [[ $deploy_mode == client ]] || options+=(--conf spark.yarn.appMasterEnv.PYTHONPATH=code)
}

# A process group of its own keeps Ctrl-C and a scheduler's SIGTERM from the JVM: with Spark gone
# the driver could not end its run properly. The driver gets the signal; its exit code is ours.
run_to_the_end() {
  local child status interrupted with_us=()
  # Should this script be killed outright, nothing goes on behind its back.
  ! command -v setpriv >/dev/null || with_us=(setpriv --pdeathsig KILL --)
  set -m
  "${with_us[@]}" "$@" </dev/null &
  child=$!
  trap 'interrupted=yes; terminate_driver "$child"' TERM INT HUP
  while :; do
    interrupted=''
    wait "$child" && status=0 || status=$?
    [[ -z $interrupted ]] || continue
    kill -0 "$child" 2>/dev/null || break
    sleep 1 # it was stopped, and may go on
  done
  keep_archive "$status"
  exit "$status"
}

terminate_driver() {
  local driver
  driver=$(cat "$CAPTIONLAKE_DRIVER_PID_FILE" 2>/dev/null) || driver=-$1
  kill -TERM -- "${driver:--$1}" 2>/dev/null || true
}

main "$@"
