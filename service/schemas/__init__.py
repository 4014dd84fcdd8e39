"""marshmallow schemas: requests and responses, kept apart."""
