"""Flask views: each binds a question to query files and returns a list."""

from service.views import credits, health, metrics, page, queries, reference  # noqa: A004 - a view is named after its resource

BLUEPRINTS = (
    credits.blueprint,
    health.blueprint,
    metrics.blueprint,
    page.blueprint,
    queries.blueprint,
    reference.blueprint,
)
