// The load of subscriptions: opens sockets, publishes, waits for the last delivery. Driven by subscribers.py over stdin and
// stdout: one line of JSON out after each step, one line in to go on, so that the caller can read /proc in between.
import http from 'node:http'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

// The packages are the peers', which live in a folder of their own.
const WebSocket = createRequire(new URL('./peers/package.json', import.meta.url))('ws')
const { port, token, document, trigger, subscribers, events, warmSockets, warmEvents } = JSON.parse(process.env.SUBSCRIBE)
const DEADLINE_MS = 30000
const AT_ONCE = 50
const PAUSE_MS = 20
const go = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
let delivered = 0
let messageBytes = 0
let expected = { total: Infinity, reached () {} }

async function step (report) {
  console.log(JSON.stringify(report))
  await go.next()
}

function fail (reason) {
  console.error(reason)
  process.exit(1)
}

/** An event has a task; what else a stream says, such as a checkpoint, has none. */
const isEvent = ({ data }) => data?.taskEvents?.task !== undefined || data?.taskEvents?.title !== undefined

function receive (message, bytes) {
  if (message.type !== 'next' || message.payload.errors) fail(`the server said ${JSON.stringify(message)}`)
  if (!isEvent(message.payload)) return
  messageBytes = bytes
  if (++delivered === expected.total) expected.reached()
}

function open (number) {
  const authorization = `Bearer ${token}`
  const socket = new WebSocket(`ws://127.0.0.1:${port}/graphql`, 'graphql-transport-ws',
    { headers: { authorization }, perMessageDeflate: false, handshakeTimeout: DEADLINE_MS })
  const send = (message, then) => socket.send(JSON.stringify(message), then)
  socket.on('error', (error) => fail(`socket ${number}: ${error.message}`))
  socket.on('close', (code) => socket.closing || fail(`socket ${number} was closed by the server: ${code}`))
  socket.on('open', () => send({ type: 'connection_init', payload: { authorization } }))
  return new Promise((resolve) => socket.on('message', (raw) => {
    const message = JSON.parse(raw)
    if (message.type === 'ping') send({ type: 'pong' })
    else if (message.type !== 'connection_ack') receive(message, raw.length)
    else send({ id: '1', type: 'subscribe', payload: { query: document } }, () => resolve(socket))
  }))
}

async function openAll (count) {
  const sockets = []
  while (sockets.length < count) {
    const batch = Math.min(AT_ONCE, count - sockets.length)
    sockets.push(...await Promise.all(Array.from({ length: batch }, (_, n) => open(sockets.length + n))))
  }
  return sockets
}

function sendTrigger () {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const request = http.request({ host: '127.0.0.1', port, path: '/graphql', method: 'POST', headers }, (response) => {
    let body = ''
    response.on('data', (chunk) => { body += chunk })
    response.on('end', () => { if (response.statusCode !== 200 || JSON.parse(body).errors) fail(`trigger: ${body}`) })
  })
  request.on('error', (error) => fail(`trigger: ${error.message}`))
  request.end(JSON.stringify({ query: trigger }))
}

/** Milliseconds from sending the mutation until the last of `sockets` has its event. */
async function publish (sockets) {
  const late = setTimeout(() => fail(`timeout: ${delivered} of ${expected.total} messages`), DEADLINE_MS)
  const started = performance.now()
  const last = new Promise((resolve) => { expected = { total: delivered + sockets, reached: resolve } })
  sendTrigger()
  await last
  clearTimeout(late)
  return performance.now() - started
}

const warm = await openAll(warmSockets)
await step({ step: 'warm sockets opened' })
for (let n = 0; n < warmEvents; n++) await publish(warmSockets)
for (const socket of warm) { socket.closing = true; socket.close() }
await step({ step: 'warmed up' })
await openAll(subscribers)
await step({ step: 'opened' })
// That it reaches everybody proves that all are subscribed, which not every server says.
await publish(subscribers)
await step({ step: 'subscribed' })
const before = delivered
const lastMs = []
for (let n = 0; n < events; n++) { lastMs.push(await publish(subscribers)); await sleep(PAUSE_MS) }
await sleep(5 * PAUSE_MS)
if (delivered !== expected.total) fail(`${delivered - expected.total} messages too many`)
await step({ step: 'done', delivered: delivered - before, lastMs, messageBytes })
process.exit(0)
