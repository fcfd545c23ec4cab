// Calls Slack's own SDKs, @slack/web-api and @slack/webhook, for everything that the sink does:
//   NODE_PATH=…/node_modules node drive.cjs <address of the fake> <token> <path of a webhook>
// It prints what the SDKs made of the answers, as JSON.
'use strict';
const { WebClient, LogLevel, retryPolicies } = require('@slack/web-api');
const { IncomingWebhook } = require('@slack/webhook');

const blocks = [
  { type: 'header', text: { type: 'plain_text', text: 'New hire' } },
  { type: 'section', text: { type: 'mrkdwn', text: '*Zoë* &amp; co' }, fields: [{ type: 'mrkdwn', text: 'R&amp;D' }] },
  { type: 'context', elements: [{ type: 'image', image_url: 'https://x.example/i.png', alt_text: 'photo' }] },
  { type: 'rich_text', elements: [{ type: 'rich_text_section', elements: [{ type: 'text', text: 'a & b' }] }] },
  { type: 'divider' },
];

async function run(address, token, hookPath) {
  const options = { slackApiUrl: address + '/api/', logLevel: LogLevel.ERROR, retryConfig: { retries: 0 } };
  const web = new WebClient(token, options);
  const word = (promise) => promise.then(() => 'ok', (e) => (e.data && e.data.error) || e.code || String(e));
  const out = {};

  out.auth = (await web.auth.test()).team_id;
  out.scopes = (await web.auth.test()).response_metadata.scopes;
  const parent = await web.chat.postMessage({ channel: '#people', text: 'parent', blocks });
  out.channel = parent.channel;
  const reply = await web.chat.postMessage({
    channel: parent.channel, text: 'reply', thread_ts: parent.ts, reply_broadcast: true, unfurl_links: false, unfurl_media: false,
    username: 'HR', icon_emoji: ':wave:', metadata: { event_type: 'hired', event_payload: { id: 4101 } },
  });
  out.replied = reply.message.thread_ts === parent.ts;
  const updated = await web.chat.update({ channel: parent.channel, ts: parent.ts, text: 'changed', blocks: [], parse: 'none' });
  out.updated = updated.ts === parent.ts;
  const orphan = await web.chat.postMessage({ channel: parent.channel, text: 'orphan', thread_ts: '1.000001' });
  out.orphan = orphan.message.thread_ts || 'none';

  out.errors = {
    channel: await word(web.chat.postMessage({ channel: '#nowhere', text: 'a' })),
    token: await word(new WebClient('xoxb-wrong', options).auth.test()),
    noToken: await word(new WebClient(undefined, options).auth.test()),
    text: await word(web.chat.postMessage({ channel: 'C02', text: '' })),
    blocks: await word(web.chat.postMessage({ channel: 'C02', text: 'a', blocks: Array(51).fill({ type: 'divider' }) })),
    header: await word(web.chat.postMessage({
      channel: 'C02', text: 'a', blocks: [{ type: 'header', text: { type: 'plain_text', text: 'x'.repeat(151) } }],
    })),
    bytes: await word(web.chat.postMessage({
      channel: 'C02', text: 'a', blocks: Array(5).fill({ type: 'section', text: { type: 'mrkdwn', text: 'x'.repeat(2900) } }),
    })),
    long: await word(web.chat.update({ channel: parent.channel, ts: parent.ts, text: 'x'.repeat(4001) })),
    gone: await word(web.chat.update({ channel: parent.channel, ts: '1.000001', text: 'a' })),
  };

  // Faster than the fake allows: one SDK is told so, the other waits as long as the answer says and gets through.
  const strict = new WebClient(token, { ...options, rejectRateLimitedCalls: true });
  out.limited = new Set();
  for (let i = 0; i < 8; i++) {
    const sent = strict.chat.postMessage({ channel: 'C03', text: 'fast ' + i });
    out.limited.add(await sent.then(() => 'ok', (e) => `${e.code} ${e.retryAfter}`));
  }
  out.limited = [...out.limited].sort();
  const patient = new WebClient(token, { ...options, retryConfig: retryPolicies.rapidRetryPolicy });
  out.patient = await word(patient.chat.postMessage({ channel: 'C03', text: 'patient' }));

  const hook = new IncomingWebhook(address + hookPath);
  const status = (promise) => promise.then((r) => r.text, (e) => e.message);
  out.hook = [
    await status(hook.send('plain')),
    await status(hook.send({ text: 'with blocks', blocks, unfurl_links: false })),
    await status(new IncomingWebhook(address + '/services/T0/B0/gone').send('a')),
  ];
  return out;
}

const [address, token, hookPath] = process.argv.slice(2);
run(address, token, hookPath).then(
  (out) => process.stdout.write(JSON.stringify(out)),
  (e) => { process.stderr.write(String(e.stack) + '\n'); process.exitCode = 1; },
);
