// A sink, whole: it sends push notifications to phones and browsers with ntfy, https://docs.ntfy.sh/publish.
import { invalid, reject, retry, skip, suspend } from './grapnel.js'

export const sink = {
  name: 'ntfy',
  description: 'Sends push notifications with ntfy.',

  config: {
    url: { kind: 'string', default: 'https://ntfy.sh', description: 'The ntfy server.' },
    topic: { kind: 'string', description: 'Where to publish: who knows it can subscribe to it.' },
    token: { kind: 'string', optional: true, sensitive: true, description: 'Access token.' },
    max_age: { kind: 'duration', optional: true, description: 'Skip events that are older when their turn comes.' }
  },
  message: {
    text: { kind: 'string', description: 'What to say.' },
    title: { kind: 'string', optional: true, description: 'Line above the text.' },
    priority: { kind: 'string', enum: ['min', 'low', 'default', 'high', 'max'], default: 'default' },
    tags: { kind: 'list', element: { kind: 'string' }, default: [], description: 'Words and names of emojis.' },
    click: { kind: 'string', optional: true, description: 'What to open on a click.' }
  },

  // What a schema cannot say. Pure: nothing is dialled.
  validate(config) {
    const url = URL.canParse(config.url) && new URL(config.url)
    if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password) {
      throw invalid(['url'], 'has to be the address of a server: https://…', 'A token belongs into its own attribute.')
    }
    if (!/^[-_A-Za-z0-9]{1,64}$/.test(config.topic)) {
      throw invalid(['topic'], 'has to be 1 to 64 letters, digits, - and _')
    }
    if (config.token && !/^[\x21-\x7e]+$/.test(config.token.reveal())) {
      throw invalid(['token'], 'has to be visible ASCII characters')
    }
  },

  // Makes an instance, for one block of a configuration. It may be async, and throw, when it has to dial.
  open(config) {
    return { deliver: (delivery, call) => publish(config, delivery, call) }
  }
}

const priorities = { min: 1, low: 2, default: 3, high: 4, max: 5 }

async function publish(config, delivery, { signal, log }) {
  const { text, title, priority, tags, click } = delivery.message
  const ageMS = Date.now() - Date.parse(delivery.event.time)
  if (config.max_age !== undefined && ageMS > config.max_age / 1e6 && !delivery.force) {
    throw skip('the event is older than max_age')
  }
  const headers = { 'content-type': 'application/json' }
  if (config.token) headers.authorization = `Bearer ${config.token.reveal()}`
  const response = await fetch(config.url, {
    method: 'POST',
    redirect: 'manual',
    signal, // the call's: it ends at the deadline, or when the host gives up
    headers,
    body: JSON.stringify({
      topic: config.topic,
      message: text,
      title,
      priority: priorities[priority],
      tags,
      click,
      sequence_id: delivery.id // the same on every attempt: a repeat replaces the notification
    })
  })
  const answer = await readJSON(response)
  if (response.ok) {
    log.debug('published', { status: response.status })
    return { reference: typeof answer.id === 'string' ? answer.id : '' }
  }
  const said = `ntfy answers ${response.status}` + (typeof answer.error === 'string' ? `: ${answer.error}` : '')
  switch (true) {
    case response.status === 408 || response.status === 429 || response.status >= 500:
      throw retry(said, 1000 * Number(response.headers.get('retry-after')) || 0)
    case response.status < 400 || [401, 403, 404].includes(response.status):
      throw suspend(said) // the address or the token is wrong: nothing else would get through
    case response.status === 413:
      throw reject(said, ['text'])
  }
  throw reject(said)
}

// readJSON reads an answer, of which 64 KiB are enough; what is no JSON says nothing.
async function readJSON(response) {
  const chunks = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk)
    size += chunk.length
    if (size > 64 << 10) return {}
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) ?? {}
  } catch {
    return {}
  }
}
