"""The only code that lists, reads and writes HDFS and Delta; every table is defined here."""
