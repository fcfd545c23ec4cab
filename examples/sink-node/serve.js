// Runs a sink as a plugin of Grapnel: go-plugin's handshake, TLS, the services of the contract, the end of the process.
import fs from 'node:fs'
import path from 'node:path'
import { Server, ServerCredentials, status } from '@grpc/grpc-js'
import { fromJSON } from '@grpc/proto-loader'
import protobuf from 'protobufjs'
import { makeCertificate } from './certificate.js'
import { Invalid, Outcome, decode, toWire } from './grapnel.js'

// What go-plugin asks for beside the contract.
const health = `syntax = "proto3"; package grpc.health.v1;
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { enum Status { UNKNOWN = 0; SERVING = 1; } Status status = 1; }`
const controller = `syntax = "proto3"; package plugin;
service GRPCController { rpc Shutdown(Empty) returns (Empty); }
message Empty {}`

const maxMessage = 64 << 20

// Standard output belongs to the handshake, from here on and not only when it serves.
const underHost = process.env.GRAPNEL_PLUGIN === 'webhooks-in-events-out'
if (underHost) process.stdout.write = process.stderr.write.bind(process.stderr)

// serve runs until the host ends it. version is that of the plugin, contract the text of plugin.proto.
export function serve(sink, version, contract) {
  const env = process.env
  if (!underHost) return byHand(sink, version)
  if (!env.PLUGIN_PROTOCOL_VERSIONS?.split(',').includes('1')) fail('the host does not speak version 1 of the protocol')
  if (!env.PLUGIN_CLIENT_CERT) fail('the host gives no certificate')

  process.stderr.on('error', () => {}) // of a host that is gone
  // A signal to the whole service must not stop what the host has yet to drain.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => {})

  const dir = env.PLUGIN_UNIX_SOCKET_DIR || env.TMPDIR || process.cwd()
  const socket = path.join(dir, 'node.sock')
  const server = new Server({
    'grpc.max_receive_message_length': maxMessage,
    'grpc.max_send_message_length': maxMessage
  })
  const end = (code) => {
    fs.rmSync(socket, { force: true })
    process.exit(code)
  }
  watchHost(() => end(1)) // an orphan would hold on to what its successor needs

  const services = (text) => fromJSON(protobuf.parse(text, { keepCase: true }).root.toJSON({ keepComments: false }),
    { keepCase: true, longs: String, enums: String, defaults: true })
  const plugin = services(contract)
  const handlers = new Handlers(sink, version)
  server.addService(plugin['grapnel.plugin.v1.Plugin'], unary(handlers,
    { Describe: 'describe', Validate: 'validate', Open: 'open', Check: 'check', Close: 'close' }))
  server.addService(plugin['grapnel.plugin.v1.Sink'], unary(handlers, { Deliver: 'deliver' }))
  server.addService(services(health)['grpc.health.v1.Health'], {
    Check: (call, answer) => call.request.service === 'plugin'
      ? answer(null, { status: 'SERVING' })
      : answer({ code: status.NOT_FOUND, details: 'unknown service' })
  })
  server.addService(services(controller)['plugin.GRPCController'], {
    Shutdown: (_, answer) => {
      answer(null, {})
      server.tryShutdown(() => end(0))
      setTimeout(() => end(0), 1000) // whatever still runs
    }
  })

  // The host proves with PLUGIN_CLIENT_CERT who it is, and knows the plugin by the certificate in the handshake.
  const { privateKey, certificate } = makeCertificate()
  const credentials = ServerCredentials.createSsl(Buffer.from(env.PLUGIN_CLIENT_CERT), [{
    private_key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    cert_chain: Buffer.from(certificate.toString())
  }], true)
  server.bindAsync(`unix:${socket}`, credentials, (err) => {
    if (err) fail(err.message)
    fs.writeSync(1, `1|1|unix|${socket}|grpc|${certificate.raw.toString('base64').replace(/=+$/, '')}\n`)
  })
}

function fail(why) {
  console.error(why)
  process.exit(1)
}

// byHand answers somebody who runs the plugin as if it were a tool.
function byHand(sink, version) {
  if (process.argv[2] === '--version') return console.log(`sink ${sink.name} ${version}`)
  fail(`This is the Grapnel sink plugin "${sink.name}", version ${version}.

It is started by the Grapnel host and does nothing by itself. Put it into the folder that "plugins { dir = ... }" in
Grapnel's configuration names, under the name grapnel-sink-${sink.name}, and use it in a sink "${sink.name}" block.`)
}

// watchHost calls gone when the host has died: the process has another parent, or GRAPNEL_HOST_PID is no more.
function watchHost(gone) {
  const parent = process.ppid
  const host = Number(process.env.GRAPNEL_HOST_PID)
  setInterval(() => {
    if (process.ppid !== parent || (host > 0 && !isThere(host))) gone()
  }, 250)
}

function isThere(pid) {
  try {
    return process.kill(pid, 0)
  } catch (err) {
    return err.code !== 'ESRCH'
  }
}

// Failure is an error of a call itself, as gRPC says it.
class Failure extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

// unary makes gRPC's handlers of methods that take a request and a signal, and return or throw.
function unary(handlers, names) {
  return Object.fromEntries(Object.entries(names).map(([rpc, name]) => [rpc, async (call, answer) => {
    const over = new AbortController()
    const abort = () => over.abort(new Error('the host has given the call up'))
    call.on('cancelled', abort)
    const left = Math.min(Number(call.getDeadline()) - Date.now(), 2 ** 31 - 1) // what a timer can hold
    const timer = setTimeout(() => over.abort(new Error('the deadline has passed')), left)
    level = levels[call.request.context?.log_level] ?? level
    try {
      answer(null, await handlers[name](call.request, over.signal))
    } catch (err) {
      answer({ code: err instanceof Failure ? err.code : status.INTERNAL, details: because(err) })
    } finally {
      clearTimeout(timer)
      call.off('cancelled', abort) // which also comes after the answer
    }
  }]))
}

// Handlers answers the calls of the contract with the instances of a sink.
class Handlers {
  #instances = new Map() // id → { name, sink, calls: a Set of promises }

  constructor(sink, version) {
    Object.assign(this, { sink, version })
    this.config = { kind: 'object', attributes: sink.config ?? {} }
    this.message = { kind: 'object', attributes: sink.message ?? {} }
  }

  describe() {
    return {
      kind: 'PLUGIN_KIND_SINK',
      name: this.sink.name,
      version: this.version,
      description: this.sink.description,
      config: toWire(this.config),
      sink: {
        message: toWire(this.message),
        max_batch: this.sink.maxBatch,
        wants_data: this.sink.wantsData,
        wants_state: this.sink.wantsState
      },
      capabilities: ['validate', 'check']
    }
  }

  // configuration reads a configuration and has the author validate it.
  configuration(json) {
    const config = decode(this.config, json)
    this.sink.validate?.(config)
    return config
  }

  async validate({ config }) {
    const whole = (err) => ({ errors: [{ path: [], summary: because(err) }] })
    return answerProblems(() => this.configuration(config), whole)
  }

  async open({ instance: id, name, config }, signal) {
    if (this.#instances.has(id)) throw new Failure(status.ALREADY_EXISTS, `instance ${id} is open already`)
    const log = logger({ sink: name })
    return answerProblems(async () => {
      const sink = await this.sink.open(this.configuration(config), { signal, log })
      if (signal.aborted || this.#instances.has(id)) { // nobody waits for it
        await sink.close?.()
        signal.throwIfAborted()
        throw new Failure(status.ALREADY_EXISTS, `instance ${id} is open already`)
      }
      this.#instances.set(id, { name, sink, calls: new Set() })
    }, unavailable)
  }

  async check({ instance }, signal) {
    return this.#use(instance, ({ name, sink }) =>
      answerProblems(() => sink.check?.({ signal, log: logger({ sink: name }) }), unavailable))
  }

  // close waits for the calls that still run, at most until the deadline.
  async close({ instance: id }, signal) {
    const instance = this.#instances.get(id)
    this.#instances.delete(id)
    if (!instance) return {} // the answer to an earlier one may have been lost
    const closed = Promise.allSettled(instance.calls).then(() => instance.sink.close?.())
    const gaveUp = new Promise((_, no) => signal.addEventListener('abort', () => no(signal.reason)))
    try {
      await Promise.race([closed, gaveUp])
    } catch (err) {
      if (signal.aborted) throw new Failure(status.DEADLINE_EXCEEDED, err.message)
      return { notes: [{ level: 'LEVEL_WARN', message: text(`close: ${because(err)}`, 512) }] }
    }
    return {}
  }

  // deliver works on the deliveries of a batch at the same time.
  async deliver({ instance, deliveries }, signal) {
    return this.#use(instance, async ({ name, sink }) => {
      const work = deliveries.map((d) => this.#one(sink, d, { signal, log: logger({ sink: name, delivery_id: d.id }) }))
      return { outcomes: await Promise.all(work) }
    })
  }

  // one delivers and makes an outcome of whatever becomes of it.
  async #one(sink, delivery, call) {
    const outcome = { delivery_id: delivery.id }
    try {
      const message = decode(this.message, delivery.message)
      const given = { ...delivery, sequence: BigInt(delivery.sequence), message }
      const { reference, state } = await sink.deliver(given, call) ?? {}
      return { ...outcome, kind: 'KIND_DELIVERED', reference: text(reference, 512), state }
    } catch (err) {
      const reason = because(err)
      if (err instanceof Invalid) {
        return { ...outcome, kind: 'KIND_REJECTED', reason, attribute_path: err.problems[0].path }
      }
      if (!(err instanceof Outcome)) {
        call.log.debug('deliver threw', { stack: err?.stack })
        return { ...outcome, kind: 'KIND_RETRY', reason }
      }
      const after = Math.min(Math.max(Math.ceil(err.afterMS || 0), 0), 86_400_000)
      return { ...outcome, kind: `KIND_${err.kind}`, reason, after_ms: after, attribute_path: err.path }
    }
  }

  // use calls an instance, which closes only after that.
  async #use(id, work) {
    const instance = this.#instances.get(id)
    if (!instance) throw new Failure(status.FAILED_PRECONDITION, `instance ${id} is not open in this process`)
    const call = work(instance)
    instance.calls.add(call)
    try {
      return await call
    } finally {
      instance.calls.delete(call)
    }
  }
}

// answerProblems runs work and makes an answer of what it throws: Invalid as attribute errors, the rest as other says.
async function answerProblems(work, other) {
  try {
    await work()
    return {}
  } catch (err) {
    if (err instanceof Failure) throw err
    if (!(err instanceof Invalid)) return other(err)
    return { errors: err.problems.map((p) => ({ path: p.path, summary: text(p.summary), detail: text(p.detail) })) }
  }
}

const unavailable = (err) => ({ unavailable: because(err) })

// because is an error's reason: fetch says only in the cause what went wrong.
const because = (err) =>
  text([err?.message ?? err, err?.cause?.message].filter(Boolean).join(': ')) || 'failed without a reason'

// text cuts what the host would cut, at a character.
function text(value, most = 2048) {
  const bytes = Buffer.from(String(value ?? '').toWellFormed())
  let end = Math.min(bytes.length, most)
  while (end < bytes.length && (bytes[end] & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

const levels = { trace: 0, debug: 1, info: 2, warn: 3, error: 4 }
let level = levels.info // what the host asked for in its last call

// logger writes JSON lines to standard error.
function logger(attributes) {
  return Object.fromEntries(Object.keys(levels).map((name) => [name, (msg, more) => {
    if (levels[name] >= level) console.error(JSON.stringify({ level: name, msg, ...attributes, ...more }))
  }]))
}
