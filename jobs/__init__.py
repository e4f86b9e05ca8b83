"""One file, one spark-submit; the only place that builds a SparkSession."""
