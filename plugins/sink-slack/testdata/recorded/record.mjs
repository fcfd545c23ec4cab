// Records what Slack's own SDKs for Node send, into requests.json beside this file. See README.md.
import { createServer } from 'node:http';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages are found from the folder that this is run in, not from this file's.
const from = createRequire(pathToFileURL(process.cwd() + '/'));
const { WebClient, LogLevel } = from('@slack/web-api');
const { IncomingWebhook } = from('@slack/webhook');

const token = 'xoxb-1234567890-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx';
const hookPath = '/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX';
const blocks = [
  { type: 'header', text: { type: 'plain_text', text: 'New hire' } },
  {
    type: 'section',
    text: { type: 'mrkdwn', text: '*Zoë* &amp; co <https://x.example/?a=1&b=2|profile> 😀' },
    fields: [{ type: 'mrkdwn', text: 'Team\nR&amp;D' }],
    accessory: { type: 'image', image_url: 'https://x.example/i.png?a=1&b=2', alt_text: 'photo' },
  },
  { type: 'actions', elements: [{ type: 'button', text: { type: 'plain_text', text: 'Open' }, url: 'https://x.example/?a=1&b=2', value: '1' }] },
];
const quiet = { unfurl_links: false, unfurl_media: false };

let name; // of the case that is being recorded
const recorded = {};
const server = createServer((req, res) => {
  let body = '';
  req.setEncoding('utf8');
  req.on('data', (part) => { body += part; });
  req.on('end', () => {
    const headers = {};
    for (const header of ['content-type', 'authorization', 'accept']) {
      if (req.headers[header]) headers[header] = req.headers[header];
    }
    recorded[name] = { method: req.method, path: req.url, headers, body };
    if (req.url.startsWith('/api/')) {
      res.setHeader('content-type', 'application/json; charset=utf-8');
      res.end('{"ok":true,"channel":"C01","ts":"1767225600.000001"}');
    } else {
      res.end('ok');
    }
  });
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${server.address().port}`;
const web = new WebClient(token, { slackApiUrl: base + '/api/', logLevel: LogLevel.ERROR });
const hook = new IncomingWebhook(base + hookPath);

const cases = {
  post_text: () => web.chat.postMessage({ channel: '#people', text: 'Hi <!here> &amp; "all" é 😀', ...quiet }),
  post_blocks: () => web.chat.postMessage({ channel: 'C01', text: 'New hire', blocks, ...quiet }),
  post_unfurled: () => web.chat.postMessage({ channel: 'C01', text: 'https://x.example', unfurl_links: true }),
  post_reply: () => web.chat.postMessage({ channel: 'C01', text: 'a reply', thread_ts: '1767225600.000001', ...quiet }),
  post_broadcast: () => web.chat.postMessage({
    channel: 'C01', text: 'a reply', thread_ts: '1767225600.000001', reply_broadcast: true, ...quiet,
  }),
  post_customized: () => web.chat.postMessage({
    channel: 'C01', text: 'a', username: 'HR & more', icon_emoji: ':wave:', icon_url: 'https://x.example/i.png', ...quiet,
  }),
  post_metadata: () => web.chat.postMessage({
    channel: 'C01', text: 'a', metadata: { event_type: 'hired', event_payload: { id: 4101, name: 'Zoë', tags: ['a', 'b'] } }, ...quiet,
  }),
  update_text: () => web.chat.update({ channel: 'C01', ts: '1767225600.000001', text: 'changed', blocks: [], parse: 'none' }),
  update_blocks: () => web.chat.update({ channel: 'C01', ts: '1767225600.000001', text: 'changed', blocks, parse: 'none' }),
  auth_test: () => web.auth.test(),
  hook_text: () => hook.send({ text: 'Hi <!here> &amp; "all" é 😀', ...quiet }),
  hook_blocks: () => hook.send({ text: 'New hire', blocks, ...quiet }),
  hook_unfurled: () => hook.send({ text: 'https://x.example', unfurl_links: true, unfurl_media: true }),
};
for (name of Object.keys(cases)) await cases[name]();
server.close();
const versions = {};
for (const p of ['@slack/web-api', '@slack/webhook']) versions[p] = from(p + '/package.json').version;
writeFileSync(new URL('requests.json', import.meta.url), JSON.stringify({ node: process.version, versions, requests: recorded }, null, 2) + '\n');
