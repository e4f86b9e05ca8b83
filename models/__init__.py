"""Decoding, preprocessing, caption models and their runtimes; free of Spark."""
