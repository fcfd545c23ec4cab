// What the author of a plugin uses: what may become of a delivery, schemas, and secrets. serve.js runs it.
import { inspect } from 'node:util'

// Outcome is thrown for a delivery that was not delivered. Any other error counts as retry.
export class Outcome extends Error {
  constructor(kind, reason, more) {
    super(reason)
    Object.assign(this, { kind }, more)
  }
}

// retry: not now. The host tries again, not before so many milliseconds have passed.
export const retry = (reason, afterMS = 0) => new Outcome('RETRY', reason, { afterMS })
// reject: never. The path names the attribute of the message that is to blame, if one is.
export const reject = (reason, path = []) => new Outcome('REJECTED', reason, { path })
// skip: there is nothing to do.
export const skip = (reason) => new Outcome('SKIPPED', reason)
// suspend: nothing can be delivered before somebody acts, such as on a token that was revoked.
export const suspend = (reason) => new Outcome('SUSPEND', reason)

// Invalid says what is wrong with a configuration or message: [{ path, summary, detail }], path being names, keys and
// indexes, outermost first. validate, open and check throw it; whatever else open and check throw is tried again.
export class Invalid extends Error {
  constructor(problems) {
    super(problems.map((p) => `${p.path.join('.') || 'the block'} ${p.summary}`).join('; '))
    this.problems = problems
  }
}

export const invalid = (path, summary, detail = '') => new Invalid([{ path, summary, detail }])

// Secret is the value of a sensitive attribute. It shows itself to reveal only: not in texts, JSON or what is logged.
export class Secret {
  #text
  constructor(text) {
    this.#text = text
  }

  reveal() {
    return this.#text
  }

  toString() {
    return '<SECRET>'
  }

  toJSON() {
    return '<SECRET>'
  }

  [inspect.custom]() {
    return '<SECRET>'
  }
}

// A schema is { kind, description, optional, nullable, sensitive, enum, default, escape, format, attributes, element } in
// the words of plugin.proto, in lower case; attributes are those of an object, by name. What has a default is optional.
const isOptional = (schema) => Boolean(schema.optional) || 'default' in schema

// toWire is a schema as the host reads it.
export function toWire(schema) {
  const word = (prefix, value) => (value ? `${prefix}_${value.toUpperCase()}` : undefined)
  return {
    kind: word('KIND', schema.kind),
    description: schema.description,
    attributes: Object.entries(schema.attributes ?? {}).map(([name, s]) => ({ name, schema: toWire(s) })),
    element: schema.element && toWire(schema.element),
    optional: isOptional(schema),
    nullable: schema.nullable,
    enum: schema.enum,
    default: 'default' in schema ? Buffer.from(JSON.stringify(schema.default)) : undefined,
    sensitive: schema.sensitive,
    escape: word('ESCAPE', schema.escape),
    format: word('FORMAT', schema.format)
  }
}

// decode reads JSON that has to fit a schema exactly, fills defaults in and hides secrets. It throws Invalid, which
// repeats no value.
export function decode(schema, json) {
  let value
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json))
  } catch {
    throw invalid([], 'is no JSON')
  }
  const problems = []
  value = take(schema, value, [], problems)
  if (problems.length > 0) throw new Invalid(problems.slice(0, 100))
  return value
}

const isObject = (v) => typeof v === 'object' && v !== null && !Array.isArray(v)

const kinds = {
  any: { fits: () => true },
  string: { fits: (v) => typeof v === 'string', is: 'a text' },
  number: { fits: Number.isFinite, is: 'a number that JavaScript can hold' },
  // 64 bits are more than a number of JavaScript holds, and a wrong digit would be worse than an error.
  integer: { fits: Number.isSafeInteger, is: 'a whole number between -2^53 and 2^53' },
  duration: { fits: Number.isSafeInteger, is: 'a whole number of nanoseconds, at most 104 days' },
  bool: { fits: (v) => typeof v === 'boolean', is: 'true or false' },
  object: { fits: isObject, is: 'an object' },
  map: { fits: isObject, is: 'an object' },
  list: { fits: Array.isArray, is: 'a list' }
}

function take(schema, value, path, problems) {
  const bad = (summary, at = path) => void problems.push({ path: at, summary, detail: '' })
  if (value === null && (schema.nullable || schema.kind === 'any')) return null
  const kind = kinds[schema.kind]
  if (!kind.fits(value)) return bad(`has to be ${kind.is}`)
  if (schema.enum && !schema.enum.includes(value)) return bad(`has to be one of ${schema.enum.join(', ')}`)
  if (schema.sensitive && schema.kind === 'string') return new Secret(value)
  const each = (s, v, key) => take(s, v, [...path, String(key)], problems)
  if (schema.kind === 'list') return value.map((v, i) => each(schema.element, v, i))
  if (schema.kind === 'map') {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, each(schema.element, v, k)]))
  }
  if (schema.kind !== 'object') return value

  const out = {}
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(schema.attributes, name)) bad('is no attribute', [...path, name])
  }
  for (const [name, s] of Object.entries(schema.attributes)) {
    const leftOut = value[name] === null && isOptional(s) && !s.nullable && s.kind !== 'any'
    if (Object.hasOwn(value, name) && !leftOut) out[name] = each(s, value[name], name)
    else if ('default' in s) out[name] = each(s, s.default, name)
    else if (!isOptional(s)) bad('is missing', [...path, name])
  }
  return out
}
