// Calls jsforce, the client of Salesforce's developers, for what it has of what the dialect salesforce does:
//   NODE_PATH=…/node_modules node salesforce.cjs <address> <access token>
// It prints what the client made of the answers, as JSON.
'use strict';
const jsforce = require('jsforce');

const key = 'HR_Id__c';
const people = [
  { [key]: 'peopleforce:4101', FirstName: 'Jane', LastName: 'Doe', Title: null },
  { [key]: 'peopleforce:4102', FirstName: 'Zoë', LastName: 'O’Neil', HR_Active__c: true },
];

async function run(address, token) {
  const c = new jsforce.Connection({ instanceUrl: address, accessToken: token, version: '62.0' });
  const created = [];
  for (const p of people) created.push(await c.sobject('Contact').upsert({ ...p }, key)); // jsforce sends one each
  const again = await c.sobject('Contact').upsert({ ...people[0] }, key);
  const values = people.map((p) => `'${p[key]}'`).join(',');
  const found = await c.query(`SELECT Id, ${key} FROM Contact WHERE ${key} IN (${values})`);
  const ids = people.map((p) => found.records.find((r) => r[key] === p[key]).Id);
  const updated = await c.sobject('Contact').update(ids.map((Id) => ({ Id, HR_Status__c: 'left' })));
  let refused;
  try {
    await c.sobject('Contact').upsert({ [key]: 'peopleforce:4103', LastName: 'X', Nmae: 'Y' }, key);
  } catch (e) {
    refused = { errorCode: e.errorCode, message: e.message };
  }
  const partly = await c.sobject('Contact').update([
    { Id: ids[0], FirstName: 'Janet' }, { Id: ids[1], Email: 'no address' },
  ]);
  const deleted = await c.sobject('Contact').destroy(ids);
  return {
    created: created.map((r) => r.created), again: again.created, ids,
    updated: updated.map((r) => r.success), refused,
    partly: partly.map((r) => [r.success, r.errors.map((e) => e.statusCode)]),
    deleted: deleted.map((r) => r.success),
  };
}

module.exports = { run };
if (require.main === module) {
  run(process.argv[2], process.argv[3]).then((v) => console.log(JSON.stringify(v)), (e) => {
    console.error(e);
    process.exit(1);
  });
}
