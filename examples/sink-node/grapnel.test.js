import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { makeCertificate } from './certificate.js'
import { Invalid, Secret, decode, toWire } from './grapnel.js'

const schema = {
  kind: 'object',
  attributes: {
    name: { kind: 'string' },
    size: { kind: 'integer', default: 3 },
    level: { kind: 'string', enum: ['low', 'high'], optional: true },
    note: { kind: 'string', optional: true, nullable: true },
    token: { kind: 'string', optional: true, sensitive: true },
    part: {
      kind: 'object',
      optional: true,
      attributes: { on: { kind: 'bool' }, ratio: { kind: 'number', optional: true } }
    },
    words: { kind: 'map', optional: true, element: { kind: 'list', element: { kind: 'string' } } },
    free: { kind: 'any', optional: true }
  }
}

test('what fits is taken, with defaults', () => {
  const take = (text) => decode(schema, Buffer.from(text))
  assert.deepEqual(take('{"name":"x"}'), { name: 'x', size: 3 })
  const all = '{"name":"x","size":-9007199254740991,"level":"low","note":null,"part":{"on":false,"ratio":0.5},' +
    '"words":{"a":["b"],"__proto__":["c"]},"free":{"any":[null]}}'
  assert.equal(JSON.stringify(take(all)), all)
  assert.deepEqual(take('{"name":"x","level":null,"free":null}'), { name: 'x', size: 3, free: null }) // null: left out
})

for (const [text, path] of [
  ['{}', 'name'], ['{"name":null}', 'name'], ['{"name":["value-7"]}', 'name'],
  ['{"name":"x","more":"value-7"}', 'more'],
  ['{"name":"x","__proto__":1}', '__proto__'], ['{"name":"x","toString":1}', 'toString'],
  ['{"name":"x","size":1.5}', 'size'], ['{"name":"x","size":9007199254740993}', 'size'],
  ['{"name":"x","size":"value-7"}', 'size'],
  ['{"name":"x","level":"value-7"}', 'level'], ['{"name":"x","token":{"value-7":1}}', 'token'],
  ['{"name":"x","part":[]}', 'part'], ['{"name":"x","part":{}}', 'part.on'],
  ['{"name":"x","part":{"on":1}}', 'part.on'], ['{"name":"x","part":{"on":true,"ratio":1e999}}', 'part.ratio'],
  ['{"name":"x","part":{"on":true,"of":1}}', 'part.of'],
  ['{"name":"x","words":{"a":["b",7]}}', 'words.a.1'], ['{"name":"x","words":{"a":null}}', 'words.a'],
  ['[]', ''], ['null', ''], ['{"name":"x"', ''], ['', ''], [Buffer.from('{"name":"\xff"}', 'latin1'), '']
]) {
  test(`refused at ${path || 'the root'}: ${text}`, () => {
    assert.throws(() => decode(schema, Buffer.from(text)), (err) =>
      err instanceof Invalid && err.problems[0].path.join('.') === path && !err.message.includes('value-7'))
  })
}

test('all that is wrong is said at once, and not too much of it', () => {
  const four = '{"size":"x","part":{"on":1},"a":1}'
  assert.throws(() => decode(schema, Buffer.from(four)), (err) => err.problems.length === 4)
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`a${i}`, 1])))
  assert.throws(() => decode(schema, Buffer.from(many)), (err) => err.problems.length === 100)
})

test('a secret is shown to who asks for it only', () => {
  const { token } = decode(schema, Buffer.from('{"name":"x","token":"s3cr3t"}'))
  assert.ok(token instanceof Secret)
  assert.equal(token.reveal(), 's3cr3t')
  for (const text of [`${token}`, String(token), JSON.stringify({ token }), inspect({ token }), inspect(token)]) {
    assert.ok(text.includes('<SECRET>') && !text.includes('s3cr3t'), text)
  }
})

test('a schema on the wire', () => {
  assert.deepEqual(toWire(schema.attributes.size).default, Buffer.from('3'))
  const wire = toWire(schema)
  assert.deepEqual(wire.attributes.map((a) => `${a.name} ${a.schema.kind} ${a.schema.optional}`).slice(0, 3),
    ['name KIND_STRING false', 'size KIND_INTEGER true', 'level KIND_STRING true'])
  assert.equal(toWire({ kind: 'string', escape: 'slack_mrkdwn', format: 'path' }).escape, 'ESCAPE_SLACK_MRKDWN')
})

test('the certificate is one that others trust alone', () => {
  const { certificate, privateKey } = makeCertificate()
  assert.ok(certificate.verify(certificate.publicKey) && certificate.checkPrivateKey(privateKey))
  assert.ok(certificate.ca && certificate.checkHost('localhost') === 'localhost')
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  assert.ok(Date.parse(certificate.validFrom) < Date.now() && Date.parse(certificate.validTo) > Date.now() + 9e11)
  assert.notEqual(certificate.serialNumber, makeCertificate().certificate.serialNumber)
})
