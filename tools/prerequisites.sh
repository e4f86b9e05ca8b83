# Sourced by spark-submit.sh, tools/setup.sh and tools/package.sh, which set `root`: what a machine
# must have, each with its remedy.
# Every failure is one line and exit code 6, the contract's code for a fault of the environment.

readonly EXIT_ENVIRONMENT=6
# The one Spark that the constraints pin; pip's own launchers don't survive a space in the path.
readonly SPARK_FOLDER=.venv/lib/python3.11/site-packages/pyspark
readonly SETUP_DISK_MIB=6000 # .venv takes 4 GB; the rest is room for unpacking

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "captionlake: $*"
  exit "$EXIT_ENVIRONMENT"
}

# Checks JAVA_HOME, else the java on PATH: the one that Spark's own scripts would start.
check_java() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/java} remedy version
  remedy='Install JDK 17 (Debian: apt-get install openjdk-17-jdk-headless), or set JAVA_HOME to one.'
  [[ -n $java ]] || java=$(command -v java) || fail "Java is missing. $remedy"
  [[ -x $java ]] || fail "JAVA_HOME=$JAVA_HOME has no bin/java. $remedy"
  version=$("$java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p' | head -n 1) || true
  case $version in
    17 | 17.* | 21 | 21.*) ;;
    *) fail "Java ${version:-of an unknown version} ($java) can't run Spark 4.2 here. $remedy" ;;
  esac
}

# Tells one checkout's requirements from another's.
requirements_key() { cat "$root/setup.py" "$root/constraints.txt" | sha256sum | head -c 16; }

# Prints the Python that makes the virtual environment.
find_python() {
  local name
  for name in python3.11 python3 python; do
    if "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      "$name" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$name has no venv module. Install it (Debian: apt-get install python3.11-venv)."
      printf '%s\n' "$name"
      return
    fi
  done
  fail 'Python 3.11 is missing. Install it (Debian 12: apt-get install python3.11 python3.11-venv).'
}

check_disk() {
  local folder=$1 free_mib
  free_mib=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
  [[ $free_mib -ge $SETUP_DISK_MIB ]] || fail "Only $free_mib MiB are free in $folder; the first \
set-up needs $SETUP_DISK_MIB MiB. Free some space, or clone to a larger disk."
}
