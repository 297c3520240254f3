// Prints the TypeScript that graphql-codegen makes of a schema and an operation: node generate.mjs schema.graphql operation.graphql
import { readFileSync } from "node:fs";
import { codegen } from "@graphql-codegen/core";
import * as operations from "@graphql-codegen/typescript-operations";
import * as types from "@graphql-codegen/typescript";
import { parse } from "graphql";

const [schema, operation] = process.argv.slice(2).map((path) => parse(readFileSync(path, "utf8")));
const output = await codegen({
  filename: "types.ts",
  schema,
  documents: [{ location: "operation.graphql", document: operation }],
  pluginMap: { types, operations },
  plugins: [{ types: {} }, { operations: {} }],
  config: { scalars: { DateTime: "string", EventCursor: "string", JSON: "unknown" } },
});
console.log(output);
