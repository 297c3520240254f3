"""The public contract: schema.graphql is what the code serves, nothing lacks a description, and what clients rely on keeps its types."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
    print_type,
)

from taskgraph import schema

FILE = Path(__file__).parents[1] / "schema.graphql"
FIXED = """
scalar DateTime
scalar EventCursor
scalar JSON

enum TaskStatus { TODO IN_PROGRESS DONE CANCELED }
enum TaskPriority { LOW MEDIUM HIGH URGENT }
enum TaskOrderField { CREATED_AT UPDATED_AT DUE_DATE PRIORITY TITLE }
enum OrderDirection { ASC DESC }
enum Tier { FREE PREMIUM }
enum TaskAction { CREATED UPDATED DELETED RESTORED DEPENDENCY_ADDED DEPENDENCY_REMOVED }
enum BulkMode { ALL_OR_NOTHING BEST_EFFORT }
enum ErrorCode {
  INVALID REQUIRED TOO_LONG NOT_FOUND FORBIDDEN EMAIL_TAKEN BAD_CREDENTIALS TOKEN_REUSED
  VERSION_CONFLICT DEPENDENCY_CYCLE BLOCKED IDEMPOTENCY_KEY_REUSED LIMIT_EXCEEDED RATE_LIMITED
}

interface Node { id: ID! }
interface UserError { code: ErrorCode! message: String! path: [String!] }
interface MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! }
type GenericError implements UserError { code: ErrorCode! message: String! path: [String!] retryAfterSeconds: Int }

type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
type User implements Node { id: ID! name: String! email: String! tier: Tier! createdAt: DateTime! }
type Session implements Node {
  id: ID! createdAt: DateTime! lastUsedAt: DateTime! expiresAt: DateTime! ip: String userAgent: String isCurrent: Boolean!
}
type Task implements Node {
  id: ID!
  title: String!
  description: String!
  status: TaskStatus!
  priority: TaskPriority!
  labels: [String!]!
  dueDate: DateTime
  version: Int!
  createdAt: DateTime!
  updatedAt: DateTime!
  completedAt: DateTime
  deletedAt: DateTime
  expiresAt: DateTime
  owner: User!
  creator: User!
  assignee: User
  parent: Task
  subtasks(filter: TaskFilter, orderBy: TaskOrder, first: Int, after: String, last: Int, before: String): TaskConnection!
  subtaskSummary: SubtaskSummary!
  isOverdue: Boolean!
  viewerCanUpdate: Boolean!
  viewerCanDelete: Boolean!
  isBlocked: Boolean!
  blockedBy(openOnly: Boolean = false, first: Int, after: String): TaskConnection!
  blocks(openOnly: Boolean = false, first: Int, after: String): TaskConnection!
}
type SubtaskSummary { total: Int! done: Int! }
type TaskEdge { cursor: String! node: Task! score: Float }
type TaskConnection { edges: [TaskEdge!]! nodes: [Task!]! pageInfo: PageInfo! totalCount: Int! }
type StatusCount { status: TaskStatus! count: Int! }
type PriorityCount { priority: TaskPriority! count: Int! }
type TaskStats { total: Int! overdue: Int! byStatus: [StatusCount!]! byPriority: [PriorityCount!]! }

input TaskOrder { field: TaskOrderField! = CREATED_AT direction: OrderDirection! = DESC }
input StringFilter { eq: String in: [String!] contains: String startsWith: String }
input IDFilter { eq: ID in: [ID!] isNull: Boolean }
input DateTimeFilter { gt: DateTime gte: DateTime lt: DateTime lte: DateTime isNull: Boolean }
input StatusFilter { eq: TaskStatus in: [TaskStatus!] notIn: [TaskStatus!] }
input PriorityFilter { eq: TaskPriority in: [TaskPriority!] gte: TaskPriority lte: TaskPriority }
input LabelFilter { hasAny: [String!] hasAll: [String!] hasNone: [String!] }
input TaskFilter {
  and: [TaskFilter!] or: [TaskFilter!] not: TaskFilter
  status: StatusFilter priority: PriorityFilter labels: LabelFilter title: StringFilter
  assigneeId: IDFilter parentId: IDFilter
  dueDate: DateTimeFilter createdAt: DateTimeFilter updatedAt: DateTimeFilter completedAt: DateTimeFilter
  isOverdue: Boolean includeDeleted: Boolean isBlocked: Boolean
}

type Query {
  node(id: ID!): Node
  nodes(ids: [ID!]!): [Node]!
  viewer: User
  task(id: ID!): Task
  tasks(filter: TaskFilter, orderBy: TaskOrder, first: Int, after: String, last: Int, before: String): TaskConnection!
  searchTasks(query: String!, filter: TaskFilter, first: Int, after: String): TaskConnection!
  taskStats(filter: TaskFilter): TaskStats!
  sessions: [Session!]!
}

type Mutation {
  register(input: RegisterInput!): RegisterPayload!
  login(input: LoginInput!): LoginPayload!
  refreshSession(input: RefreshSessionInput): RefreshSessionPayload!
  logout: LogoutPayload!
  revokeSession(input: RevokeSessionInput!): RevokeSessionPayload!
  revokeOtherSessions: RevokeSessionPayload!
  changePassword(input: ChangePasswordInput!): ChangePasswordPayload!
  updateProfile(input: UpdateProfileInput!): UpdateProfilePayload!
  deleteAccount(input: DeleteAccountInput!): DeleteAccountPayload!
  createTask(input: CreateTaskInput!): CreateTaskPayload!
  updateTask(input: UpdateTaskInput!): UpdateTaskPayload!
  deleteTask(input: DeleteTaskInput!): DeleteTaskPayload!
  restoreTask(input: RestoreTaskInput!): RestoreTaskPayload!
  addDependency(input: DependencyInput!): DependencyPayload!
  removeDependency(input: DependencyInput!): DependencyPayload!
  bulkCreateTasks(input: BulkCreateTasksInput!): BulkTasksPayload!
  bulkUpdateTasks(input: BulkUpdateTasksInput!): BulkTasksPayload!
  bulkDeleteTasks(input: BulkDeleteTasksInput!): BulkTasksPayload!
}

type VersionConflict implements UserError {
  code: ErrorCode! message: String! path: [String!] current: Task! conflictingFields: [String!]!
}
type DependencyCycle implements UserError { code: ErrorCode! message: String! path: [String!] cycle: [Task!]! }
type DependencyPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean!
  blocker: Task blocked: Task
}
type BulkTaskResult { index: Int! ref: String task: Task errors: [UserError!]! }
type BulkTasksPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean!
  results: [BulkTaskResult!]! matchedCount: Int! changedCount: Int!
}
input DependencyInput { blockerId: ID! blockedId: ID! idempotencyKey: String }
input TaskSelector @oneOf { ids: [ID!] filter: TaskFilter }
input BulkCreateTasksInput { tasks: [CreateTaskInput!]! mode: BulkMode = ALL_OR_NOTHING idempotencyKey: String }
input BulkUpdateTasksInput {
  where: TaskSelector! patch: TaskPatch! mode: BulkMode = ALL_OR_NOTHING dryRun: Boolean = false idempotencyKey: String
}
input BulkDeleteTasksInput { where: TaskSelector! mode: BulkMode = ALL_OR_NOTHING dryRun: Boolean = false idempotencyKey: String }

type RegisterPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean!
  viewer: User accessToken: String accessTokenExpiresAt: DateTime refreshToken: String
}
type LoginPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean!
  viewer: User accessToken: String accessTokenExpiresAt: DateTime refreshToken: String
}
type RefreshSessionPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean!
  viewer: User accessToken: String accessTokenExpiresAt: DateTime refreshToken: String
}
type LogoutPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! }
type RevokeSessionPayload implements MutationPayload {
  errors: [UserError!]! cursor: EventCursor replayed: Boolean! revokedCount: Int!
}
type ChangePasswordPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! viewer: User }
type UpdateProfilePayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! viewer: User }
type DeleteAccountPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! }
type CreateTaskPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! task: Task }
type UpdateTaskPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! task: Task }
type DeleteTaskPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! task: Task }
type RestoreTaskPayload implements MutationPayload { errors: [UserError!]! cursor: EventCursor replayed: Boolean! task: Task }

input RegisterInput { name: String! email: String! password: String! }
input LoginInput { email: String! password: String! }
input RefreshSessionInput { refreshToken: String }
input RevokeSessionInput { id: ID! }
input ChangePasswordInput { currentPassword: String! newPassword: String! }
input UpdateProfileInput { name: String email: String }
input DeleteAccountInput { password: String! }
input TaskRef @oneOf { id: ID ref: String }
input CreateTaskInput {
  title: String! description: String = "" status: TaskStatus = TODO priority: TaskPriority = MEDIUM labels: [String!]
  dueDate: DateTime assigneeId: ID parent: TaskRef blockedBy: [TaskRef!] ref: String idempotencyKey: String
}
input TaskPatch {
  title: String description: String status: TaskStatus priority: TaskPriority dueDate: DateTime
  labels: [String!] addLabels: [String!] removeLabels: [String!] assigneeId: ID parentId: ID
}
input UpdateTaskInput { id: ID! patch: TaskPatch! expectedVersion: Int ignoreBlockers: Boolean = false idempotencyKey: String }
input DeleteTaskInput { id: ID! expectedVersion: Int idempotencyKey: String }
input RestoreTaskInput { id: ID! idempotencyKey: String }

type Subscription { taskEvents(after: EventCursor, filter: TaskEventFilter): TaskStreamMessage! }
union TaskStreamMessage = TaskEvent | StreamCheckpoint | StreamGap
type FieldChange { field: String! before: JSON after: JSON }
type TaskEvent implements Node {
  id: ID! cursor: EventCursor! action: TaskAction! taskId: ID! version: Int! occurredAt: DateTime!
  task: Task changes: [FieldChange!]! actor: User causedBy: String
}
type StreamCheckpoint { cursor: EventCursor! at: DateTime! }
type StreamGap { from: EventCursor cursor: EventCursor! reason: String! }
input TaskEventFilter { taskIds: [ID!] actions: [TaskAction!] excludeCausedBy: [String!] }
"""
Composite = GraphQLObjectType | GraphQLInterfaceType
# Lists whose length follows from something else than a number in their description.
BOUNDED_OTHERWISE = {
    "errors": "one for each member of an input",
    "path": "as deep as an input",
    "changes": "one for each field of a task",
}


@pytest.fixture(scope="module")
def served() -> GraphQLSchema:
    return build_schema(schema.sdl())


@pytest.fixture(scope="module")
def fixed() -> GraphQLSchema:
    return build_schema(FIXED)


def ours(of: GraphQLSchema) -> Iterator[tuple[str, object]]:
    """The types that are not GraphQL's own."""
    for name, each in of.type_map.items():
        if not is_introspection_type(each) and not (isinstance(each, GraphQLScalarType) and is_specified_scalar_type(each)):
            yield name, each


def members(of: GraphQLSchema) -> dict[str, tuple[str, str | None]]:
    """Every type and member by its path, with its exact type (for arguments also the default value) and its description."""
    found: dict[str, tuple[str, str | None]] = {}
    for name, each in ours(of):
        found[name] = type(each).__name__, getattr(each, "description", None)
        if isinstance(each, Composite):
            for field_name, field in each.fields.items():
                found[f"{name}.{field_name}"] = str(field.type), field.description
                for argument_name, argument in field.args.items():
                    found[f"{name}.{field_name}({argument_name})"] = str(argument.type), argument.description
        elif isinstance(each, GraphQLInputObjectType):
            for field_name, input_field in each.fields.items():
                found[f"{name}.{field_name}"] = str(input_field.type), input_field.description
        elif isinstance(each, GraphQLEnumType):
            for value_name, value in each.values.items():
                found[f"{name}.{value_name}"] = "value", value.description
    return found


def defaults(of: GraphQLSchema) -> dict[str, str]:
    """Every default value but null, as it is written."""
    return {
        f"{name}.{line.strip().partition(':')[0]}": line.partition(" = ")[2]
        for name, each in ours(of)
        if isinstance(each, GraphQLInputObjectType)
        for line in print_type(each).splitlines()
        if " = " in line and not line.endswith(" = null")
    }


def test_the_file_is_what_the_code_serves() -> None:
    assert FILE.read_text() == schema.sdl(), "schema.graphql is stale; run `make schema`"


def test_every_member_has_a_description(served: GraphQLSchema) -> None:
    assert [path for path, (_, description) in members(served).items() if not (description or "").strip()] == []


def test_no_description_only_says_the_name_again(served: GraphQLSchema) -> None:
    def plain(text: str) -> str:
        return "".join(letter for letter in text.lower() if letter.isalpha()).removeprefix("the")

    said = {path: plain(description or "") for path, (_, description) in members(served).items()}
    assert [path for path, text in said.items() if text == plain(path.rpartition(".")[2].rstrip(")"))] == []


def test_every_list_has_a_bound(served: GraphQLSchema) -> None:
    unbounded = []
    for name, each in ours(served):
        if isinstance(each, Composite) and not name.endswith("Connection"):
            for field_name, field in each.fields.items():
                kind = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
                is_stated = any(words in (field.description or "").lower() for words in ("at most", "one entry for every"))
                if isinstance(kind, GraphQLList) and not is_stated and field_name not in BOUNDED_OTHERWISE:
                    unbounded.append(f"{name}.{field_name}")
    assert unbounded == []


def test_every_page_can_be_cut(served: GraphQLSchema) -> None:
    uncut = []
    for name, each in ours(served):
        if isinstance(each, Composite):
            for field_name, field in each.fields.items():
                if str(field.type).rstrip("!").endswith("Connection"):
                    first = field.args.get("first")
                    if first is None or "1 to 100" not in (first.description or ""):
                        uncut.append(f"{name}.{field_name}")
    assert uncut == []


def test_what_clients_rely_on_has_its_exact_type(served: GraphQLSchema, fixed: GraphQLSchema) -> None:
    now = {path: kind for path, (kind, _) in members(served).items()}
    promised = {path: kind for path, (kind, _) in members(fixed).items()}
    assert {path: now.get(path) for path in promised} == promised


def test_nothing_new_is_demanded_of_clients(served: GraphQLSchema, fixed: GraphQLSchema) -> None:
    """A new member of a known input or field must be optional."""
    known, demanded = members(fixed), []
    for path, (kind, _) in members(served).items():
        owner = path.rpartition("(")[0] if path.endswith(")") else path.rpartition(".")[0]
        is_argument = path.endswith(")") or isinstance(served.type_map.get(owner), GraphQLInputObjectType)
        if is_argument and owner in known and path not in known and kind.endswith("!"):
            demanded.append(path)
    assert demanded == []


def test_values_that_are_left_out_stay_what_they_were(served: GraphQLSchema, fixed: GraphQLSchema) -> None:
    assert defaults(served) == defaults(fixed)


def test_interfaces_and_unions_hold_what_they_promise(served: GraphQLSchema, fixed: GraphQLSchema) -> None:
    for name, promised in ours(fixed):
        now = served.type_map[name]
        if isinstance(promised, Composite):
            assert isinstance(now, Composite)
            assert {each.name for each in promised.interfaces} <= {each.name for each in now.interfaces}, name
        elif isinstance(promised, GraphQLUnionType):
            assert isinstance(now, GraphQLUnionType)
            assert {each.name for each in promised.types} == {each.name for each in now.types}
        elif isinstance(promised, GraphQLInputObjectType):
            assert isinstance(now, GraphQLInputObjectType)
            assert promised.is_one_of == now.is_one_of
