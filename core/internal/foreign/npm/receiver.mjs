// An endpoint for what the HTTP sink sends, made of packages of npm: `standardwebhooks` verifies the signature with the
// secret in WEBHOOK_SECRET, `cloudevents` reads the events. The path says what is expected: /structured, /binary, /batch
// or /raw. It prints the address that it listens on, then a line of JSON for each request.
import http from "node:http";
import cloudevents from "cloudevents";
import standardwebhooks from "standardwebhooks";

const webhook = new standardwebhooks.Webhook(process.env.WEBHOOK_SECRET);

const types = {
  "/structured": /^application\/cloudevents\+json\b/,
  "/binary": /^application\/json$/,
  "/batch": /^application\/cloudevents-batch\+json$/,
  "/raw": /^application\/json$/,
};

// The HTTP binding has receivers decode header values; the package leaves that to its user.
function decoded(headers) {
  const out = { ...headers };
  for (const name of Object.keys(out)) {
    if (name.startsWith("ce-")) out[name] = decodeURIComponent(out[name]);
  }
  return out;
}

function read(path, headers, body) {
  if (!types[path]?.test(headers["content-type"])) throw new Error(`content type ${headers["content-type"]}`);
  if (path === "/raw") return [JSON.parse(body)];
  const message = { headers: path === "/binary" ? decoded(headers) : headers, body };
  if (!cloudevents.HTTP.isEvent(message)) throw new Error("no event");
  const events = [cloudevents.HTTP.toEvent(message)].flat();
  for (const event of events) event.validate();
  return events;
}

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString("utf8");
  const seen = { path: request.url, id: request.headers["webhook-id"], status: 200 };
  try {
    webhook.verify(body, request.headers);
    try {
      seen.events = read(request.url, request.headers, body);
    } catch (error) {
      seen.status = 400;
      seen.error = String(error);
    }
  } catch (error) {
    seen.status = 401;
    seen.error = String(error);
  }
  // Slow enough for events to queue up behind a batch.
  if (request.url === "/batch") await new Promise((resolve) => setTimeout(resolve, 20));
  console.log(JSON.stringify(seen));
  response.writeHead(seen.status).end(seen.error);
});

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
