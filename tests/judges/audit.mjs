// Prints how the public audit of GraphQL over HTTP went, as JSON: node audit.mjs http://host:port/graphql
import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2] });
console.log(JSON.stringify(results.map(({ id, name, status, reason }) => ({ id, name, status, reason }))));
