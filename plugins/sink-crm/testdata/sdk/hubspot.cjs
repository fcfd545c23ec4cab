// Calls HubSpot's own client, @hubspot/api-client, for everything that the dialect hubspot does:
//   NODE_PATH=…/node_modules node hubspot.cjs <address> <token>
// It prints what the client made of the answers, as JSON.
'use strict';
const { Client } = require('@hubspot/api-client');

const people = [
  { key: 'peopleforce:4101', trace: 'd-1', properties: { firstname: 'Jane', lastname: 'Doe', jobtitle: '' } },
  { key: 'peopleforce:4102', trace: 'd-2', properties: { firstname: 'Zoë', lastname: 'O’Neil', hr_level: '2.50' } },
];
const property = 'hr_external_id';

async function run(address, token) {
  const { batchApi, basicApi } = new Client({ accessToken: token, basePath: address }).crm.contacts;
  const input = (p, properties) => ({ id: p.key, idProperty: property, objectWriteTraceId: p.trace, properties });
  const upserted = await batchApi.upsert({ inputs: people.map((p) => input(p, p.properties)) });
  const again = await batchApi.upsert({ inputs: people.map((p) => input(p, p.properties)) });
  const flagged = await batchApi.update({ inputs: [input(people[1], { hr_status: 'left' })] });
  const read = await batchApi.read({
    inputs: people.map((p) => ({ id: p.key })), idProperty: property, properties: [property], propertiesWithHistory: [],
  });
  const ids = people.map((p) => read.results.find((r) => r.properties[property] === p.key).id);
  await batchApi.archive({ inputs: ids.map((id) => ({ id })) });
  const page = await basicApi.getPage(1);
  const refused = await batchApi.upsert({ inputs: [
    input(people[0], { nmae: 'Jane' }), input(people[1], { firstname: 'Zoë' }),
  ] });
  return {
    created: upserted.results.map((r) => r._new),
    createdAgain: again.results.map((r) => r._new),
    traces: upserted.results.map((r) => r.objectWriteTraceId).sort(),
    flagged: flagged.results.map((r) => r.properties.hr_status),
    ids,
    page: page.results.length,
    refused: {
      results: refused.results.length, numErrors: refused.numErrors,
      category: refused.errors[0].category, trace: refused.errors[0].context.objectWriteTraceId,
    },
  };
}

module.exports = { run };
if (require.main === module) {
  run(process.argv[2], process.argv[3]).then((v) => console.log(JSON.stringify(v)), (e) => {
    console.error(e);
    process.exit(1);
  });
}
