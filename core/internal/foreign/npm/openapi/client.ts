// Drives the control API of a host as a client would that knows nothing but its OpenAPI document: types and paths are
// generated from it, and every answer is checked against its schemas.
//
//	node client.js <document> <url> <token>
//
// The last line says which operations were called.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import type { components, paths } from "./api.js";

const [file, url, token] = process.argv.slice(2) as [string, string, string];
const doc = JSON.parse(readFileSync(file, "utf8"));
const ajv = new Ajv2020({ strict: false, allErrors: true });
formats.default(ajv);
ajv.addSchema({ $id: "openapi", ...doc });

const called = new Set<string>();

function pointer(...steps: string[]): string {
  return steps.map((s) => "/" + encodeURIComponent(s.replaceAll("~", "~0").replaceAll("/", "~1"))).join("");
}

function fail(what: string): never {
  throw new Error(what);
}

// check holds an answer against the document.
async function check(path: string, method: string, response: Response): Promise<void> {
  const operation = doc.paths[path][method];
  called.add(operation.operationId);
  let at = pointer("paths", path, method, "responses", String(response.status));
  let answer = operation.responses[response.status] ?? fail(`${method} ${path}: status ${response.status}`);
  if (answer.$ref) {
    at = answer.$ref.slice(1);
    answer = doc.components.responses[at.split("/").pop()!];
  }
  const type = (response.headers.get("content-type") ?? "").split(";")[0]!;
  if (!answer.content[type]) fail(`${method} ${path}: type ${type}`);
  if (type === "text/event-stream") return; // has no end
  const text = await response.clone().text();
  const values = type === "application/json" ? [text] : type === "application/x-ndjson" ? text.trim().split("\n") : [];
  for (const value of values) {
    if (!ajv.validate({ $ref: "openapi#" + at + pointer("content", type, "schema") }, JSON.parse(value))) {
      fail(`${method} ${path}: ${ajv.errorsText()}\n${value}`);
    }
  }
}

function client(authorization?: string) {
  const api = createClient<paths>({ baseUrl: url, headers: { Authorization: authorization } });
  api.use({
    async onResponse({ schemaPath, request, response }) {
      await check(schemaPath, request.method.toLowerCase(), response);
      return undefined;
    },
  });
  return api;
}

const api = client(`Bearer ${token}`);

function need<T>(answer: { data?: T; response: Response }): T {
  return answer.data ?? fail(`${answer.response.url}: ${answer.response.status}`);
}

const status = need(await api.GET("/v1/status"));
if (!status.running || !status.plugins?.every((p) => p.sha256?.length === 64 && p.started_at)) fail("status");
need(await api.GET("/v1/rates"));
need(await api.GET("/v1/openapi.json"));
const config = need(await api.GET("/v1/config"));
if (!config.files.length || JSON.stringify(config).includes(token)) fail("no files, or a secret in them");
if (need(await api.GET("/v1/reloads")).items.length !== 1) fail("the start is no reload");
if (need(await api.POST("/v1/reload")).result !== "unchanged") fail("a reload of nothing");
need(await api.GET("/v1/alerts"));
need(await api.GET("/metrics", { parseAs: "text" }));
for (const path of ["/healthz", "/readyz"] as const) need(await api.GET(path, { parseAs: "text" }));

// A list page by page is the list as a whole.
const all = need(await api.GET("/v1/requests", { params: { query: { limit: 1000 } } })).items;
const ids: string[] = [];
for (let cursor: string | undefined; ; ) {
  const page = need(await api.GET("/v1/requests", { params: { query: { limit: 2, cursor } } }));
  ids.push(...page.items.map((r) => r.id));
  if (!(cursor = page.next)) break;
}
if (ids.length < 3 || ids.join() !== all.map((r) => r.id).join()) fail(`${ids} by page, ${all.length} at once`);
type Search = components["schemas"]["SearchReport"];
const search = await api.POST("/v1/requests/search", { body: { text: '"number":3' }, parseAs: "text" });
const found = (search.data as unknown as string).trim().split("\n").map((l): Search => JSON.parse(l));
if (found.at(-1)?.result?.found !== 1 || !found[0]?.item) fail(JSON.stringify(found));
need(await api.GET("/v1/requests/export", { params: { query: { source: "hr" } } }));

const id = { path: { id: all[0]!.id } };
const request = need(await api.GET("/v1/requests/{id}", { params: id }));
const body = need(await api.GET("/v1/requests/{id}/body", { params: id, parseAs: "text" }));
if (body !== request.body) fail(`the body is ${body}, not ${request.body}`);
const stored: components["schemas"]["Explanation"] = need(
  await api.GET("/v1/requests/{id}/explanation", { params: id }),
);
if (stored.events[0]?.routes.find((r) => r.route === "picky")?.verdict !== "when") fail(JSON.stringify(stored));
const unsigned = { source: "hr", headers: request.headers, body: request.body };
const given = need(await api.POST("/v1/explain", { body: unsigned }));
if (given.authentication.result !== "refused" || given.events.length !== 1) fail(JSON.stringify(given));

const events = need(await api.GET("/v1/events", { params: { query: { subject: "employment/k1" } } })).items;
if (events.length !== 1) fail(`${events.length} events of a subject`);
need(await api.GET("/v1/events/{id}", { params: { path: { id: events[0]!.id } } }));
const query = { state: "delivered", sink: "out" } as const;
const delivered = need(await api.GET("/v1/deliveries", { params: { query } })).items;
const dead = need(await api.GET("/v1/deliveries", { params: { query: { state: "dead" } } })).items;
need(await api.GET("/v1/deliveries/{id}", { params: { path: { id: dead[0]!.id } } }));
const none = await api.GET("/v1/deliveries/{id}", { params: { path: { id: "dlv_none" } } });
if (none.response.status !== 404 || !none.error?.error) fail("a delivery that is not there");

// Answers of lines are text to this client.
type Report = components["schemas"]["Report"];
const last = (text: string | undefined): Report => JSON.parse((text ?? fail("no lines")).trim().split("\n").pop()!);
const lines = { parseAs: "text" } as const;
const replay = await api.POST("/v1/deliveries/replay", { body: { ids: [delivered[0]!.id] }, ...lines });
if (last(replay.data as string).result?.done !== 1) fail(JSON.stringify(replay.data));
await api.POST("/v1/deliveries/retry", { params: { query: { dry_run: true, sink: "out" } }, ...lines });
await api.POST("/v1/requests/retry", { params: { query: { dry_run: true } }, ...lines });
const skipped = need(await api.POST("/v1/deliveries/skip", { body: { ids: [dead[0]!.id], reason: "by a client" } }));
if (skipped.items[0]?.state !== "skipped") fail(JSON.stringify(skipped));

const sink = { path: { sink: "out" } };
need(await api.POST("/v1/sinks/{sink}/pause", { params: sink, body: { reason: "by a client" } }));
if (need(await api.GET("/v1/status")).sinks?.find((s) => s.sink === "out")?.state !== "paused") fail("not paused");
if (!need(await api.POST("/v1/sinks/{sink}/resume", { params: sink })).resumed) fail("not resumed");

const rejections = need(await api.GET("/v1/rejections", { params: { query: { cause: "missing_signature" } } })).items;
need(await api.GET("/v1/rejections/{id}", { params: { path: { id: rejections[0]!.id } } }));

const tail = await api.GET("/v1/tail", { parseAs: "stream" });
const reader = (tail.data as unknown as ReadableStream<Uint8Array>).getReader();
const first = new TextDecoder().decode((await reader.read()).value);
if (!first.includes("event: ready")) fail(first);
await reader.cancel();

await api.POST("/v1/requests/erase", { params: { query: { dry_run: true } }, body: { subject: "employment/k1" } });
await api.POST("/v1/requests/erase", { body: { subject: "employment/k1" }, ...lines });
const receipts = need(await api.GET("/v1/receipts")).items;
need(await api.GET("/v1/receipts/{id}", { params: { path: { id: receipts[0]!.id } } }));
if (need(await api.GET("/v1/events", { params: { query: { subject: "employment/k1" } } })).items.length) fail("still there");

// Nobody else.
for (const header of [undefined, "Bearer another token"]) {
  const answer = await client(header).GET("/v1/requests");
  if (answer.response.status !== 401) fail(`with ${header}: ${answer.response.status}`);
}
console.log(JSON.stringify([...called].sort()));
