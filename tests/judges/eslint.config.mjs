// What @graphql-eslint finds in a schema, SCHEMA=<file>, which is the file to lint, too: every rule of its sets for schemas, but for those that are off here.
import graphql from "@graphql-eslint/eslint-plugin";

const described = {
  types: true,
  rootField: true,
  FieldDefinition: true,
  InputValueDefinition: true,
  EnumValueDefinition: true,
  DirectiveDefinition: true,
  // The specification's own, and arguments of directives, for which Strawberry has no place.
  ignoredSelectors: ["DirectiveDefinition[name.value=oneOf]", "DirectiveDefinition > InputValueDefinition"],
};

export default [
  {
    files: ["**/*.graphql"],
    plugins: { "@graphql-eslint": graphql },
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: process.env.SCHEMA } } },
    rules: {
      ...graphql.configs["flat/schema-all"].rules,
      ...graphql.configs["flat/schema-relay"].rules,
      // Members stand in the order in which one reads them.
      "@graphql-eslint/alphabetize": "off",
      // Against having mutations or subscriptions at all.
      "@graphql-eslint/no-root-type": "off",
      // A payload is never null, and leads on by the object that it holds; problems are data in its `errors`.
      "@graphql-eslint/require-nullable-result-in-root": "off",
      "@graphql-eslint/require-field-of-type-query-in-mutation-result": "off",
      // Payloads, counts and other values are no objects that one could ask for again.
      "@graphql-eslint/strict-id-in-types": "off",
      // Some lists are short by nature and no connections; searches and logs are read in one direction.
      "@graphql-eslint/relay-edge-types": ["error", { listTypeCanWrapOnlyEdgeType: false }],
      "@graphql-eslint/relay-arguments": ["error", { includeBoth: false }],
      // Stricter than recommended.
      "@graphql-eslint/require-description": ["error", described],
    },
  },
];
