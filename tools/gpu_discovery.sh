#!/bin/sh
# Tells Spark which GPUs this node (or container) has, in the form that Spark's resource discovery
# reads: {"name": "gpu", "addresses": ["0", "1"]}.
set -eu
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -sd, -)
printf '{"name": "gpu", "addresses": [%s]}\n' "$addresses"
