#!/usr/bin/env bash
# Builds what a cluster's executors need into dist/: captionlake.zip (code), env.tar.gz (Python
# packages) and gpu_discovery.sh; jars/ is there already. spark-submit.sh passes them on where an
# environment says spark.pyspark.python = ./env/bin/python, after packing the code again.
# Usage: tools/package.sh [EXTRA ...], such as gpu; tools/package.sh --code for the code alone.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
source tools/prerequisites.sh
readonly CODE=(conf models udfs storage jobs)
# Executors have Spark's jars already, compile nothing and serve no pages.
readonly LEFT_OUT=('*/pyspark/jars/*' '*/pyspark/examples/*' '*/tensorflow/include/*'
  '*/mlflow/server/js/*' '*/__pycache__/*')

main() {
  mkdir -p dist build
  pack_code
  [[ ${1-} != --code ]] || return 0
  cp tools/gpu_discovery.sh dist/
  pack_environment "$@"
  say "dist/ is ready: $(du -h dist/* | awk '{ print $2 " (" $1 ")" }' | paste -sd ' ')."
}

# The default model stays out: a job ships the model it was told to use by itself.
# A driver that runs may be handing out the one that is there: it is replaced, not rewritten.
pack_code() {
  .venv/bin/python - "${CODE[@]}" <<'END'
import os
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

coming = Path(f"dist/captionlake-{os.getpid()}.zip")
with ZipFile(coming, "w", ZIP_DEFLATED) as archive:
    for package in sys.argv[1:]:
        for path in sorted(Path(package).rglob("*")):
            if path.suffix in (".py", ".toml", ".properties", ".html") and "default" not in path.parts:
                archive.write(path)
coming.replace("dist/captionlake.zip")
END
}

# An environment of its own, without what only training and tests need.
pack_environment() {
  local wanted stamp=dist/.env-of coming=dist/env-$$.tar.gz extras=() options=() name
  for name in "$@"; do extras+=(--extra "$name"); done
  wanted="$(requirements_key) $*"
  [[ ! -f dist/env.tar.gz || ! -f $stamp || $(<"$stamp") != "$wanted" ]] || return 0
  say 'Packing the Python environment; this takes a few minutes.'
  rm -rf build/env
  .venv/bin/python -m venv --without-pip build/env
  .venv/bin/uv pip install --quiet --python build/env/bin/python -c constraints.txt \
    --build-constraints constraints.txt -r setup.py "${extras[@]}"
  for name in "${LEFT_OUT[@]}"; do options+=(--exclude "$name"); done
  .venv/bin/venv-pack --quiet --prefix build/env --output "$coming" --compress-level 1 \
    "${options[@]}"
  rm -rf build/env "$stamp"
  mv "$coming" dist/env.tar.gz
  echo "$wanted" >"$stamp"
}

main "$@"
