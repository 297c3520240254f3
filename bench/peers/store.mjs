// Where the Node servers keep things: one pool of connections, reads and the one write, on the plain mongodb driver.
import { MongoClient } from 'mongodb'

export const MONGO_URL = process.env.MONGO_URL
export const MONGO_DATABASE = process.env.MONGO_DATABASE
export const NEWEST_FIRST = { createdAt: -1, _id: -1 }

/** The newest subtasks of many parents, at most `limit` each: one query, and the database throws the rest away. */
export const subtasksOf = (ownerId, parents, limit) => [
  { $match: { parentId: { $in: parents }, ownerId } },
  { $group: { _id: '$parentId', items: { $topN: { n: limit, sortBy: NEWEST_FIRST, output: '$$ROOT' } } } }
]

export async function openStore () {
  const db = (await new MongoClient(MONGO_URL).connect()).db(MONGO_DATABASE)
  const [users, tasks] = [db.collection('users'), db.collection('tasks')]
  return {
    user: (_id) => users.findOne({ _id }),
    usersByIds: (ids) => users.find({ _id: { $in: ids } }).toArray(),
    page: (ownerId, limit) => tasks.find({ ownerId }).sort(NEWEST_FIRST).limit(limit).toArray(),
    subtasks: (...of) => tasks.aggregate(subtasksOf(...of)).toArray(),
    create: async ({ ownerId, title, description = '', priority = 'MEDIUM', dueDate = null }) => {
      const now = new Date()
      const fixed = { assigneeId: null, parentId: null, status: 'TODO', createdAt: now, updatedAt: now }
      const task = { ownerId, title, description, priority, dueDate, ...fixed }
      await tasks.insertOne(task)
      return task
    }
  }
}
