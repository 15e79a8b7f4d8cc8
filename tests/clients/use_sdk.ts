// What a caller does with the client that hey-api generated. Prints what it saw as JSON.
import { client } from "./sdk/client.gen.js";
import { createCampaign, getCampaign, listCampaigns, type Problem } from "./sdk/index.js";

declare const process: { argv: string[] };
const [url, key] = process.argv.slice(2) as [string, string];
client.setConfig({ baseUrl: url, auth: key });

function have<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("nothing there");
  return value;
}

const page = have((await listCampaigns({ query: { type: "voice", limit: 2 } })).data);
if (!("data" in page)) throw new Error("not a page");
const ids = have(page.data.results).map((row) => have(row._id));
const many = have((await listCampaigns({ query: { ids: [...ids, "cd-nothing"] } })).data);
if ("data" in many) throw new Error("not a batch");
const one = have((await getCampaign({ path: { id: ids[0] } })).data);
const cut = have((await getCampaign({ path: { id: ids[0] }, query: { fields: ["name", "status"] } })).data);
const missing: Problem = have((await getCampaign({ path: { id: "cd-nothing" } })).error);
const stranger: Problem = have((await getCampaign({ path: { id: ids[0] }, auth: "cgk_wrong" })).error);
const body = { name: "", description: "", contactLists: [], priority: "3" };
const refused: Problem = have((await createCampaign({ query: { type: "voice" }, body })).error);

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
