"""Version of this software, for the distribution and for the lineage of every run."""

VERSION = "0.1.0"
