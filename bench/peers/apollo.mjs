// Apollo Server on Express, Mongoose with lean() reads, DataLoader per request. No subscriptions.
import { ApolloServer } from '@apollo/server'
import { expressMiddleware } from '@as-integrations/express5'
import express from 'express'
import mongoose from 'mongoose'
import { contextOf } from './context.mjs'
import { resolversOver, typeDefs } from './schema.mjs'
import { MONGO_DATABASE, MONGO_URL, NEWEST_FIRST, subtasksOf } from './store.mjs'

const { ObjectId } = mongoose.Schema.Types
const options = { autoIndex: false, versionKey: false }
const User = mongoose.model('User', new mongoose.Schema({
  email: { type: String, required: true, unique: true }, name: String, createdAt: Date, tier: String
}, { ...options, collection: 'users' }))
const Task = mongoose.model('Task', new mongoose.Schema({
  ownerId: { type: ObjectId, required: true },
  assigneeId: { type: ObjectId, default: null },
  parentId: { type: ObjectId, default: null },
  title: { type: String, required: true },
  description: { type: String, default: '' },
  status: { type: String, enum: ['TODO', 'IN_PROGRESS', 'DONE'], default: 'TODO' },
  priority: { type: String, enum: ['LOW', 'MEDIUM', 'HIGH', 'URGENT'], default: 'MEDIUM' },
  dueDate: { type: Date, default: null }
}, { ...options, collection: 'tasks', timestamps: true }))

// lean(): plain objects instead of Mongoose documents, as its documentation recommends for reading.
const store = {
  user: (_id) => User.findById(_id).lean().exec(),
  usersByIds: (ids) => User.find({ _id: { $in: ids } }).lean().exec(),
  page: (ownerId, limit) => Task.find({ ownerId }).sort(NEWEST_FIRST).limit(limit).lean().exec(),
  subtasks: (...of) => Task.aggregate(subtasksOf(...of)).exec(),
  create: async (fields) => (await Task.create(fields)).toObject()
}

await mongoose.connect(MONGO_URL, { dbName: MONGO_DATABASE })
const server = new ApolloServer({ typeDefs, resolvers: resolversOver(store), introspection: false })
await server.start()
const app = express()
app.disable('x-powered-by')
app.get('/health', (_, response) => response.send('ok'))
app.use('/graphql', express.json({ limit: '100kb' }), expressMiddleware(server, {
  context: async ({ req }) => contextOf(store, req.headers.authorization)
}))
app.listen(Number(process.env.PORT), '127.0.0.1')
