"""Strawberry and ODMantic put together as their documentation shows, with a DataLoader per request.

STRAWBERRY_CACHES=1 adds its ParserCache and ValidationCache.
"""
import asyncio
import base64
import datetime as dt
import enum
import os
from collections.abc import AsyncGenerator
from functools import cache

import jwt
import strawberry
from aiodataloader import DataLoader
from bson import ObjectId
from graphql import GraphQLError
from motor.motor_asyncio import AsyncIOMotorClient
from odmantic import AIOEngine, Field, Model, query
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.types import Info

SECRET = os.environ["JWT_SECRET"]
CACHES = [ParserCache(maxsize=1000), ValidationCache(maxsize=1000)] if os.environ.get("STRAWBERRY_CACHES") == "1" else []
subscribers: set[asyncio.Queue] = set()


@cache
def engine() -> AIOEngine:
    """The database, opened inside the running event loop."""
    return AIOEngine(client=AsyncIOMotorClient(os.environ["MONGO_URL"]), database=os.environ["MONGO_DATABASE"])


TaskStatus = strawberry.enum(enum.StrEnum("TaskStatus", {name: name for name in ("TODO", "IN_PROGRESS", "DONE")}))
TaskPriority = strawberry.enum(enum.StrEnum("TaskPriority", {name: name for name in ("LOW", "MEDIUM", "HIGH", "URGENT")}))


class UserDoc(Model):
    model_config = {"collection": "users"}
    email: str = Field(unique=True)
    name: str
    created_at: dt.datetime = Field(key_name="createdAt")
    tier: str = "free"


class TaskDoc(Model):
    model_config = {"collection": "tasks"}
    owner_id: ObjectId = Field(key_name="ownerId")
    assignee_id: ObjectId | None = Field(default=None, key_name="assigneeId")
    parent_id: ObjectId | None = Field(default=None, key_name="parentId")
    title: str
    description: str = ""
    status: TaskStatus = TaskStatus.TODO
    priority: TaskPriority = TaskPriority.MEDIUM
    due_date: dt.datetime | None = Field(default=None, key_name="dueDate")
    created_at: dt.datetime = Field(key_name="createdAt")
    updated_at: dt.datetime = Field(key_name="updatedAt")


class UserLoader(DataLoader):
    async def batch_load_fn(self, ids):
        found = {user.id: user for user in await engine().find(UserDoc, query.in_(UserDoc.id, ids))}
        return [found.get(id) for id in ids]


class SubtaskLoader(DataLoader):
    """Newest subtasks of many parents at once; keys are (parent id, how many)."""

    def __init__(self, me):
        super().__init__()
        self.me = me

    async def batch_load_fn(self, keys):
        found = {}
        for limit in {limit for _, limit in keys}:
            parents = [parent for parent, wanted in keys if wanted == limit]
            found |= {(parent, limit): tasks async for parent, tasks in self.newest(parents, limit)}
        return [found.get(key, []) for key in keys]

    async def newest(self, parents, limit):
        top = {"n": limit, "sortBy": {"createdAt": -1, "_id": -1}, "output": "$$ROOT"}
        groups = engine().get_collection(TaskDoc).aggregate([
            {"$match": {"parentId": {"$in": parents}, "ownerId": self.me}},
            {"$group": {"_id": "$parentId", "items": {"$topN": top}}}])
        async for group in groups:
            yield group["_id"], [TaskDoc.model_validate_doc(document) for document in group["items"]]


@strawberry.type
class User:
    id: strawberry.ID
    name: str
    email: str
    created_at: dt.datetime

    @classmethod
    def from_doc(cls, doc: UserDoc):
        return cls(id=strawberry.ID(str(doc.id)), name=doc.name, email=doc.email, created_at=doc.created_at)


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class TaskEdge:
    cursor: str
    node: "Task"


@strawberry.type
class TaskConnection:
    edges: list[TaskEdge]
    page_info: PageInfo

    @classmethod
    def from_docs(cls, docs: list[TaskDoc], first: int):
        edges = [TaskEdge(cursor=cursor_of(doc), node=Task.from_doc(doc)) for doc in docs[:first]]
        end = edges[-1].cursor if edges else None
        return cls(edges=edges, page_info=PageInfo(has_next_page=len(docs) > first, end_cursor=end))


@strawberry.type
class Task:
    id: strawberry.ID
    title: str
    description: str
    status: TaskStatus
    priority: TaskPriority
    due_date: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    doc: strawberry.Private[TaskDoc]

    @classmethod
    def from_doc(cls, doc: TaskDoc):
        return cls(id=strawberry.ID(str(doc.id)), title=doc.title, description=doc.description, status=doc.status,
                   priority=doc.priority, due_date=doc.due_date, created_at=doc.created_at,
                   updated_at=doc.updated_at, doc=doc)

    @strawberry.field
    async def owner(self, info: Info) -> User:
        return User.from_doc(await info.context["users"].load(self.doc.owner_id))

    @strawberry.field
    async def assignee(self, info: Info) -> User | None:
        if self.doc.assignee_id is None:
            return None
        user = await info.context["users"].load(self.doc.assignee_id)
        return user and User.from_doc(user)

    @strawberry.field
    async def subtasks(self, info: Info, first: int | None = 10) -> TaskConnection:
        first = page_size(first)
        return TaskConnection.from_docs(await info.context["subtasks"].load((self.doc.id, first + 1)), first)


def page_size(first: int | None) -> int:
    return max(1, min(first or 20, 100))


def cursor_of(doc: TaskDoc) -> str:
    milliseconds = int(doc.created_at.replace(tzinfo=dt.timezone.utc).timestamp() * 1000)
    return base64.b64encode(f"{milliseconds}:{doc.id}".encode()).decode()


def signed_in(info: Info) -> ObjectId:
    if info.context["me"] is None:
        raise GraphQLError("unauthenticated", extensions={"code": "UNAUTHENTICATED"})
    return info.context["me"]


@strawberry.type
class Query:
    @strawberry.field
    async def viewer(self, info: Info) -> User | None:
        return User.from_doc(await info.context["users"].load(signed_in(info)))

    @strawberry.field
    async def tasks(self, info: Info, first: int | None = 20) -> TaskConnection:
        first = page_size(first)
        newest_first = (TaskDoc.created_at.desc(), TaskDoc.id.desc())
        mine = TaskDoc.owner_id == signed_in(info)
        return TaskConnection.from_docs(await engine().find(TaskDoc, mine, sort=newest_first, limit=first + 1), first)


@strawberry.input
class CreateTaskInput:
    title: str
    description: str | None = None
    priority: TaskPriority | None = None
    due_date: dt.datetime | None = None


@strawberry.type
class CreateTaskPayload:
    task: Task


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def create_task(self, info: Info, input: CreateTaskInput) -> CreateTaskPayload:
        now = dt.datetime.utcnow()
        doc = TaskDoc(owner_id=signed_in(info), title=input.title, description=input.description or "",
                      priority=input.priority or TaskPriority.MEDIUM, due_date=input.due_date,
                      created_at=now, updated_at=now)
        await engine().save(doc)
        for queue in subscribers:
            queue.put_nowait(doc)
        return CreateTaskPayload(task=Task.from_doc(doc))


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def task_events(self, info: Info) -> AsyncGenerator[Task, None]:
        signed_in(info)
        queue: asyncio.Queue = asyncio.Queue()
        subscribers.add(queue)
        try:
            while True:
                yield Task.from_doc(await queue.get())
        finally:
            subscribers.discard(queue)


class App(GraphQL):
    async def get_context(self, request, response=None):
        me = None
        try:
            token = request.headers.get("authorization", "")[len("Bearer "):]
            me = ObjectId(jwt.decode(token, SECRET, algorithms=["HS256"])["sub"])
        except jwt.PyJWTError:
            pass
        return {"request": request, "response": response, "me": me, "users": UserLoader(), "subtasks": SubtaskLoader(me)}


async def health(request):
    return PlainTextResponse("ok")


graphql = App(strawberry.Schema(Query, Mutation, Subscription, extensions=CACHES), graphql_ide=None)
app = Starlette(routes=[Route("/graphql", graphql), WebSocketRoute("/graphql", graphql), Route("/health", health)])
