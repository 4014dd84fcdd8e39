"""The version of the service, in this one place: setup.cfg reads it too."""

VERSION = "1.0.0"
