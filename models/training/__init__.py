"""Training over shards on a local disk: no Spark, no tracking server."""
