// A sink for the tests of serve.js: batches, keyed state, the event's data, nested schemas, and prints where they must do
// no harm. It answers as its message says.
import { serve } from '../serve.js'
import contract from '../../../sdk/proto/grapnel/plugin/v1/plugin.proto'
import { invalid, reject, retry, skip, suspend } from '../grapnel.js'

console.log('a print before it serves')

const words = { kind: 'map', optional: true, element: { kind: 'list', element: { kind: 'string' } } }
const part = { kind: 'object', attributes: { name: { kind: 'string' }, on: { kind: 'bool', optional: true }, words } }

const sink = {
  name: 'recorder',
  description: 'Records nothing.',
  maxBatch: 5,
  wantsData: true,
  wantsState: true,
  config: {
    password: { kind: 'string', sensitive: true },
    wait: { kind: 'duration', default: 1e6 },
    parts: { kind: 'list', element: part }
  },
  message: {
    answer: { kind: 'string', enum: ['deliver', 'retry', 'reject', 'skip', 'suspend', 'throw'] },
    ratio: { kind: 'number', optional: true },
    part,
    free: { kind: 'any', optional: true }
  },

  async open(config, { log }) {
    if (config.parts.length === 0) throw invalid(['parts'], 'has to have one')
    log.info('opened', { config }) // its password does not show
    let closed = false
    return {
      async check() {
        if (closed) throw new Error('it is closed')
      },
      async close() {
        closed = true
      },
      async deliver(delivery, { signal, log }) {
        console.log('a print while it serves')
        log.trace('delivering', { message: delivery.message })
        JSON.parse(delivery.data)
        if (typeof delivery.sequence !== 'bigint' || closed) throw new Error('this cannot be')
        await new Promise((done, stop) => {
          const timer = setTimeout(done, config.wait / 1e6)
          signal.addEventListener('abort', () => (clearTimeout(timer), stop(signal.reason)))
        })
        switch (delivery.message.answer) {
          case 'retry': throw retry('later', 7_000)
          case 'reject': throw reject('never', ['part', 'name'])
          case 'skip': throw skip('done already')
          case 'suspend': throw suspend('revoked')
          case 'throw': throw new Error('x'.repeat(5_000) + '\ud800')
        }
        const count = Number(delivery.state.toString()) || 0
        return { reference: 'ü'.repeat(400), state: Buffer.from(String(count + 1)) }
      }
    }
  }
}

serve(sink, '1.2.3', contract)
