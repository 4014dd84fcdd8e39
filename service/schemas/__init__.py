"""The marshmallow schemas of requests and of responses."""
