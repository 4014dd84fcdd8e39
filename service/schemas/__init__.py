"""marshmallow schemas, those of requests and those of responses apart."""
