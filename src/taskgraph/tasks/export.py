"""What an account's export holds of tasks: those in the trash, too, their dependencies and their history."""

from taskgraph.accounts.export import Section
from taskgraph.accounts.schema import USER
from taskgraph.server.relay import global_id
from taskgraph.storage import event_log
from taskgraph.storage.mongo import Document
from taskgraph.tasks.model import TASK, TaskPriority
from taskgraph.tasks.task_schema import EVENT, shown_value

SHOWN = ("title", "description", "status", "labels", "dueDate", "version", "createdAt", "updatedAt", "completedAt", "deletedAt")


def _task(task: Document) -> Document:
    owner_id, parent_id, assignee_id = task["ownerId"], task["parentId"], task["assigneeId"]
    return {
        "id": global_id(TASK, task["_id"], owner_id),
        **{name: task[name] for name in SHOWN},
        "priority": TaskPriority(task["priority"]).name,
        "parentId": global_id(TASK, parent_id, owner_id) if parent_id else None,
        "assigneeId": global_id(USER, assignee_id) if assignee_id else None,
    }


def _dependency(edge: Document) -> Document:
    ends = {name: global_id(TASK, edge[name], edge["ownerId"]) for name in ("blockerId", "blockedId")}
    return {**ends, "createdAt": edge["createdAt"]}


def _event(event: Document) -> Document:
    owner_id = event["ownerId"]
    return {
        "id": global_id(EVENT, event["_id"], owner_id),
        "taskId": global_id(TASK, event["subjectId"], owner_id),
        **{name: event[name] for name in ("action", "version", "occurredAt", "causedBy")},
        "changes": [
            {
                "field": change["field"],
                "before": shown_value(change["field"], change["before"], owner_id),
                "after": shown_value(change["field"], change["after"], owner_id),
            }
            for change in event["changes"]
        ],
        "task": _task(event["snapshot"]),
    }


SECTIONS = (
    Section("tasks", "tasks", lambda user_id: {"ownerId": user_id}, _task),
    Section("dependencies", "dependencies", lambda user_id: {"ownerId": user_id}, _dependency),
    Section("events", event_log.COLLECTION, lambda user_id: {"ownerId": user_id}, _event, [("subjectId", 1), ("version", 1)]),
)
