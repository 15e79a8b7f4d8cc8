// What a caller does with openapi-fetch and the types that openapi-typescript generated. Prints what it saw as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];
declare const process: { argv: string[] };
const [url, key] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function have<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("nothing there");
  return value;
}

const listed = await client.GET("/v1/campaigns", { params: { query: { type: "voice", limit: 2 } } });
const page = have(listed.data);
if (!("data" in page)) throw new Error("not a page");
const ids = have(page.data.results).map((row) => have(row._id));
const many = have((await client.GET("/v1/campaigns", { params: { query: { ids: [...ids, "cd-nothing"] } } })).data);
if ("data" in many) throw new Error("not a batch");
const one = have((await client.GET("/v1/campaigns/{id}", { params: { path: { id: ids[0] } } })).data);
const query = { fields: ["name", "status"] };
const cut = have((await client.GET("/v1/campaigns/{id}", { params: { path: { id: ids[0] }, query } })).data);
const missing: Problem = have((await client.GET("/v1/campaigns/{id}", { params: { path: { id: "cd-nothing" } } })).error);
const other = createClient<paths>({ baseUrl: url, headers: { Authorization: "Bearer cgk_wrong" } });
const stranger: Problem = have((await other.GET("/v1/campaigns/{id}", { params: { path: { id: ids[0] } } })).error);
const body = { name: "", description: "", contactLists: [], priority: "3" };
const refused: Problem = have((await client.POST("/v1/campaigns", { params: { query: { type: "voice" } }, body })).error);

console.log(
  JSON.stringify({
    ids,
    name: one.data.name,
    hours: one.data.dialingStrategy?.callingHours?.timezone,
    cut: cut.data,
    batch: many.results.map((result) => result.status),
    in_batch: many.results[ids.length]?.problem?.type,
    problems: [missing, stranger, refused].map((problem) => problem.type),
  }),
);
