// The sink against an ntfy server of the test's own: what is sent, and what becomes of each answer.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { Invalid, decode } from './grapnel.js'
import { sink } from './plugin.js'

let server, url, answer, got
before(async () => {
  server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += chunk))
    request.on('end', () => {
      got = { headers: request.headers, body: JSON.parse(body) }
      response.writeHead(answer.status, answer.headers).end(answer.body)
    })
  }).listen(0, '127.0.0.1')
  await new Promise((listening) => server.once('listening', listening))
  url = `http://127.0.0.1:${server.address().port}`
})
after(() => server.close())

const read = (attributes, value) => decode({ kind: 'object', attributes }, Buffer.from(JSON.stringify(value)))
const configuration = (given) => read(sink.config, { url, topic: 'people', ...given })

async function deliver(given = {}, config = {}) {
  const instance = sink.open(configuration(config))
  const message = read(sink.message, { text: 'Hello', ...given.message })
  return instance.deliver({ id: 'dlv_1', event: { time: '2026-11-01T12:00:00Z' }, ...given, message },
    { signal: AbortSignal.timeout(10_000), log: { debug() {} } })
}

test('a message is published', async () => {
  answer = { status: 200, body: '{"id":"hwQ2YpKdmg"}' }
  const done = await deliver({ message: { title: 'News', priority: 'high', tags: ['tada'] } }, { token: 'tk_secret' })
  assert.deepEqual(done, { reference: 'hwQ2YpKdmg' })
  assert.equal(got.headers.authorization, 'Bearer tk_secret')
  assert.deepEqual(got.body,
    { topic: 'people', message: 'Hello', title: 'News', priority: 4, tags: ['tada'], sequence_id: 'dlv_1' })
})

for (const [status, kind, more] of [
  [302, 'SUSPEND'], [401, 'SUSPEND'], [403, 'SUSPEND'], [404, 'SUSPEND'],
  [408, 'RETRY', { afterMS: 0 }], [429, 'RETRY', { afterMS: 7000 }],
  [500, 'RETRY', { afterMS: 0 }], [503, 'RETRY', { afterMS: 0 }],
  [400, 'REJECTED', { path: [] }], [413, 'REJECTED', { path: ['text'] }]
]) {
  test(`${status} ends as ${kind}`, async () => {
    answer = { status, headers: status === 429 ? { 'retry-after': '7' } : {}, body: '{"error":"because"}' }
    await assert.rejects(deliver(), { kind, message: `ntfy answers ${status}: because`, ...more })
  })
}

test('answers that are strange or endless are read in part', async () => {
  for (const body of ['', 'no JSON', 'null', '[]', '{"id":7}', 'x'.repeat(1 << 20)]) {
    answer = { status: 200, body }
    assert.deepEqual(await deliver(), { reference: '' })
  }
})

test('old events are skipped, unless an operator wants them', async () => {
  answer = { status: 200, body: '{}' }
  const old = { event: { time: '2001-01-01T00:00:00Z' } }
  await assert.rejects(deliver(old, { max_age: 3600e9 }), { kind: 'SKIPPED' })
  await deliver({ ...old, force: true }, { max_age: 3600e9 })
  await deliver({ event: { time: '' } }, { max_age: 3600e9 })
  await deliver(old)
})

test('configurations are checked beyond the schema', () => {
  sink.validate(configuration({ token: 'tk_secret' }))
  for (const [name, value] of [
    ['url', 'ntfy.sh'], ['url', 'ftp://ntfy.sh'], ['url', 'https://me:pass@ntfy.sh'],
    ['topic', 'a/b'], ['topic', ''], ['token', 'two\nlines'], ['token', '']
  ]) {
    assert.throws(() => sink.validate(configuration({ [name]: value })), (err) =>
      err instanceof Invalid && err.problems[0].path[0] === name && (value === '' || !err.message.includes(value)))
  }
})
