// GraphQL Yoga on node:http, graphql-ws for subscriptions, DataLoader per request, mongodb driver.
import { createServer } from 'node:http'
import { useServer } from 'graphql-ws/use/ws'
import { createPubSub, createSchema, createYoga } from 'graphql-yoga'
import { WebSocketServer } from 'ws'
import { contextOf } from './context.mjs'
import { resolversOver, typeDefs } from './schema.mjs'
import { openStore } from './store.mjs'

const TOPIC = 'taskEvents'
const store = await openStore()
const pubsub = createPubSub()
const events = {
  publish: (task) => pubsub.publish(TOPIC, task),
  subscribe: () => pubsub.subscribe(TOPIC)
}
const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers: resolversOver(store, events) }),
  graphiql: false,
  landingPage: false,
  logging: false,
  context: ({ req }) => contextOf(store, req.headers.authorization)
})

/** A socket's operation goes through Yoga's own pipeline, as its documentation shows. */
async function prepareSubscription ({ extra }, _id, params) {
  const { schema, execute, subscribe, contextFactory, parse, validate } =
    yoga.getEnveloped({ req: extra.request, socket: extra.socket, params })
  const document = parse(params.query)
  const errors = validate(schema, document)
  if (errors.length) return errors
  return {
    schema, document, operationName: params.operationName, variableValues: params.variables,
    contextValue: await contextFactory(), rootValue: { execute, subscribe }
  }
}

const server = createServer((request, response) => request.url === '/health' ? response.end('ok') : yoga(request, response))
useServer({
  execute: (args) => args.rootValue.execute(args),
  subscribe: (args) => args.rootValue.subscribe(args),
  onSubscribe: prepareSubscription
}, new WebSocketServer({ server, path: '/graphql' }))
// 1,000 sockets are opened fifty at a time, yet a short queue of new connections would still drop some.
server.listen(Number(process.env.PORT), '127.0.0.1', 4096)
