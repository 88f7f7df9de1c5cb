"""The version, alone in a file so that reading it loads nothing."""

VERSION = "0.1.0"
