// Fastify and Mercurius with its JIT, DataLoader per request, mongodb driver. DataLoader instead of Mercurius' own loaders,
// because the nested page costs almost twice as much with those.
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { contextOf } from './context.mjs'
import { resolversOver, typeDefs } from './schema.mjs'
import { openStore } from './store.mjs'

const TOPIC = 'taskEvents'
const store = await openStore()
const events = {
  publish: (task, { pubsub }) => pubsub.publish({ topic: TOPIC, payload: task }),
  subscribe: (_, __, { pubsub }) => pubsub.subscribe(TOPIC)
}
const app = Fastify({ logger: false })
app.get('/health', async () => 'ok')
app.register(mercurius, {
  schema: typeDefs,
  resolvers: resolversOver(store, events),
  jit: 1,
  graphiql: false,
  context: (request) => contextOf(store, request.headers.authorization),
  subscription: { context: (_, request) => contextOf(store, request.headers.authorization) }
})
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
