"""What Spark runs on executors: thin wrappers around `models`, without session or storage."""
