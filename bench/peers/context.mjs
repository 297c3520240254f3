// What one request has: who asks, and loaders that batch its reads and forget them at its end.
import { createSecretKey } from 'node:crypto'
import DataLoader from 'dataloader'
import { GraphQLError } from 'graphql'
import jwt from 'jsonwebtoken'
import { ObjectId } from 'mongodb'

// A KeyObject: given a text, jsonwebtoken first tries to read it as a public key, which costs a millisecond per call.
const SECRET = createSecretKey(Buffer.from(process.env.JWT_SECRET))

/** The context of the user whose token this is, or a 401. */
export function contextOf (store, authorization = '') {
  let me
  try {
    me = new ObjectId(jwt.verify(authorization.slice('Bearer '.length), SECRET, { algorithms: ['HS256'] }).sub)
  } catch {
    const refused = new GraphQLError('unauthenticated', { extensions: { code: 'UNAUTHENTICATED', http: { status: 401 } } })
    throw Object.assign(refused, { statusCode: 401 })
  }
  return { me, loaders: new Loaders(store, me) }
}

class Loaders {
  #users
  #subtasks = new Map() // by how many are wanted
  constructor (store, me) { Object.assign(this, { store, me }) }

  get users () {
    return (this.#users ??= batched((ids) => this.store.usersByIds(ids), (user) => user, null))
  }

  subtasks (limit) {
    if (!this.#subtasks.has(limit)) {
      this.#subtasks.set(limit, batched((ids) => this.store.subtasks(this.me, ids, limit), (group) => group.items, []))
    }
    return this.#subtasks.get(limit)
  }
}

function batched (load, valueOf, missing) {
  return new DataLoader(async (ids) => {
    const found = new Map((await load(ids)).map((row) => [row._id.toHexString(), valueOf(row)]))
    return ids.map((id) => found.get(id.toHexString()) ?? missing)
  }, { cacheKeyFn: (id) => id.toHexString() })
}
