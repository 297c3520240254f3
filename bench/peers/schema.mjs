// The part of taskgraph's schema that the workloads ask for, and its resolvers over any store.
import { GraphQLScalarType } from 'graphql'

export const typeDefs = /* GraphQL */ `
  scalar DateTime
  enum TaskStatus { TODO IN_PROGRESS DONE }
  enum TaskPriority { LOW MEDIUM HIGH URGENT }
  type User { id: ID! name: String! email: String! createdAt: DateTime! }
  type Task { id: ID! title: String! description: String! status: TaskStatus! priority: TaskPriority!
              dueDate: DateTime createdAt: DateTime! updatedAt: DateTime!
              owner: User! assignee: User subtasks(first: Int = 10): TaskConnection! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type TaskEdge { cursor: String! node: Task! }
  type TaskConnection { edges: [TaskEdge!]! pageInfo: PageInfo! }
  type Query { viewer: User tasks(first: Int = 20): TaskConnection! }
  input CreateTaskInput { title: String! description: String priority: TaskPriority dueDate: DateTime }
  type CreateTaskPayload { task: Task! }
  type Mutation { createTask(input: CreateTaskInput!): CreateTaskPayload! }
  type Subscription { taskEvents: Task! }
`

const DateTime = new GraphQLScalarType({
  name: 'DateTime', serialize: (value) => value.toISOString(), parseValue: (text) => new Date(text)
})
const pageSize = (first) => Math.min(Math.max(first ?? 20, 1), 100)
const cursorOf = (task) => Buffer.from(`${task.createdAt.getTime()}:${task._id.toHexString()}`).toString('base64')
const id = (document) => document._id.toHexString()

/** A page out of up to `first + 1` documents: the extra one only says that there is more. */
function connection (documents, first) {
  const edges = documents.slice(0, first).map((node) => ({ cursor: cursorOf(node), node }))
  return { edges, pageInfo: { hasNextPage: documents.length > first, endCursor: edges.at(-1)?.cursor } }
}

/** `events` (publish, subscribe) where the server carries subscriptions. */
export function resolversOver (store, events) {
  const resolvers = {
    DateTime,
    Query: {
      viewer: (_, __, { me }) => store.user(me),
      tasks: async (_, args, { me }) => {
        const first = pageSize(args.first)
        return connection(await store.page(me, first + 1), first)
      }
    },
    Mutation: {
      createTask: async (_, { input }, context) => {
        const task = await store.create({ ...input, ownerId: context.me })
        events?.publish(task, context)
        return { task }
      }
    },
    User: { id },
    Task: {
      id,
      owner: (task, _, { loaders }) => loaders.users.load(task.ownerId),
      assignee: (task, _, { loaders }) => task.assigneeId && loaders.users.load(task.assigneeId),
      subtasks: async (task, args, { loaders }) => {
        const first = pageSize(args.first)
        return connection(await loaders.subtasks(first + 1).load(task._id), first)
      }
    }
  }
  if (events) resolvers.Subscription = { taskEvents: { subscribe: events.subscribe, resolve: (task) => task } }
  return resolvers
}
