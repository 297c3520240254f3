"""Prices and limits as the API shows them."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

from taskgraph.context import Info
from taskgraph.errors import BadUserInput
from taskgraph.server.cost import FREE, PREPARATION
from taskgraph.server.estimates import Estimates
from taskgraph.server.rate_limit import RateLimits
from taskgraph.server.scalars import JSON


@strawberry.type(description="A limit within a window of time.")
class RateLimitWindow:
    """As it stands."""

    name: str = strawberry.field(
        description="`viewer` counts points of the account, `sign-in` logins and refreshes of the address."
    )
    limit: int = strawberry.field(description="What may be taken in a window.")
    remaining: int = strawberry.field(description="What is left of it.")
    reset_at: datetime = strawberry.field(description="When all of it is there again.")
    window_seconds: int = strawberry.field(description="How long a window is; it begins with the first that is taken.")


@strawberry.type(description="What the viewer may still spend.")
class RateLimit:
    """With the price of this very operation."""

    cost: int = strawberry.field(description="What this very operation costs, in points.")
    max_cost: int = strawberry.field(description="What one operation may cost at most.")
    windows: list[RateLimitWindow] = strawberry.field(
        description="The limits on the viewer, at most 2; none where the deployment has turned them off.", directives=[FREE]
    )


@strawberry.type(description="What a field costs at one place of an operation.")
class FieldCost:
    """Without what stands below it."""

    path: str = strawberry.field(description="Where it stands, by aliases where there are some: `tasks.nodes.owner`.")
    cost: int = strawberry.field(description="Its own points, all items taken together; what stands below has its own entry.")


@strawberry.type(description="What an operation would cost.")
class CostEstimate:
    """Of one operation."""

    cost: int = strawberry.field(description="In points, as it would be charged; 2147483647 stands for that and more.")
    depth: int = strawberry.field(description="How many levels its fields nest.")
    node_count: int = strawberry.field(description="How many objects the answer may hold, by the same sizes.")
    allowed: bool = strawberry.field(description="Whether it would be run.")
    rejected_because: str | None = strawberry.field(description="Why it would not be run; null when it would.")
    by_field: list[FieldCost] = strawberry.field(
        description="The fields that give objects or cost something, in the order of the document, at most 1,000. Their costs add up to `cost`.",
        directives=[FREE],
    )


@strawberry.type
class Query:
    """The root fields about cost."""

    @strawberry.field(description="The limits on the viewer, after this operation was charged.")
    async def rate_limit(self, info: Info) -> RateLimit:
        """What the windows hold is read without taking anything."""
        context = info.context
        _viewer = context.viewer
        standings = await context.resources[RateLimits].standing(context.purse, context.address)
        return RateLimit(
            cost=context.cost,
            max_cost=context.settings.max_cost,
            windows=[
                RateLimitWindow(
                    name=each.window.name,
                    limit=each.window.limit,
                    remaining=each.remaining,
                    reset_at=each.resets_at,
                    window_seconds=each.window.seconds,
                )
                for each in standings
            ],
        )

    @strawberry.field(
        description="What a document would cost, without running it. Also tells why one would be refused.", directives=[PREPARATION]
    )
    async def estimate_cost(
        self,
        info: Info,
        document: Annotated[str, strawberry.argument(description="Any GraphQL document.")],
        operation_name: Annotated[
            str | None, strawberry.argument(description="Which of its operations; needed when there are several.")
        ] = None,
        variables: Annotated[JSON | None, strawberry.argument(description="An object, as it would be sent.")] = None,
    ) -> CostEstimate:
        """For signed-in viewers, as it costs what preparing a document costs."""
        _viewer = info.context.viewer
        given: Any = variables
        if not isinstance(given, dict | None):
            raise BadUserInput("variables must be an object or null.")
        found = await info.context.resources[Estimates].estimate(document, operation_name, given or {})
        return CostEstimate(
            cost=found.estimate.cost,
            depth=found.estimate.depth,
            node_count=found.estimate.nodes,
            allowed=found.rejected_because is None,
            rejected_because=found.rejected_because,
            by_field=[FieldCost(path=each.path, cost=each.cost) for each in found.fields],
        )
