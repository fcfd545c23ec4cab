// Records the requests that the two clients send, with a fake in front of which it stands:
//   NODE_PATH=…/node_modules node record.cjs <hubspot|salesforce> <address of the fake> <token> > <name>.json
'use strict';
const http = require('node:http');

const [, , name, target, token] = process.argv;
const requests = [];
const proxy = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (c) => chunks.push(c));
  req.on('end', async () => {
    const body = Buffer.concat(chunks);
    const kept = { method: req.method, path: req.url, authorization: (req.headers.authorization || '').split(' ')[0] };
    if (body.length > 0) {
      kept.content_type = req.headers['content-type'];
      kept.body = JSON.parse(body.toString());
    }
    requests.push(kept);
    const headers = {};
    for (const h of ['authorization', 'content-type', 'accept']) if (req.headers[h]) headers[h] = req.headers[h];
    const answer = await fetch(target + req.url, {
      method: req.method, headers, body: body.length > 0 ? body : undefined,
    });
    res.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') || 'text/plain' });
    res.end(Buffer.from(await answer.arrayBuffer()));
  });
});
proxy.listen(0, '127.0.0.1', () => {
  const address = `http://127.0.0.1:${proxy.address().port}`;
  require(`./${name}.cjs`).run(address, token).then(() => {
    console.log(JSON.stringify(requests, null, 1));
    process.exit(0);
  }, (e) => {
    console.error(e);
    process.exit(1);
  });
});
