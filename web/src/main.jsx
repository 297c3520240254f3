// The GraphiQL page: example tabs, and an access token taken over from the address when there is one.
import "@fontsource/fira-code/400.css";
import "@fontsource/roboto/latin-400.css";
import "@fontsource/roboto/latin-500.css";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "graphiql/graphiql.css";
import "graphiql/setup-workers/vite";
import "./style.css";

import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";

import createTask from "./create-task.graphql?raw";
import { fetcher } from "./fetcher.js";
import { SharedHeaders } from "./shared-headers.jsx";
import taskEvents from "./task-events.graphql?raw";
import tasks from "./tasks.graphql?raw";

const signedInHeaders = headersFromAddress();
// It begins by saying how to sign in.
const firstTab = signedInHeaders ? tasks.replace(/^(#.*\n)+\n/, "") : tasks;

createRoot(document.getElementById("graphiql")).render(
  <GraphiQL
    fetcher={fetcher}
    defaultTabs={[firstTab, createTask, taskEvents].map((query) => ({ query }))}
    defaultHeaders={signedInHeaders}
    defaultEditorToolsVisibility="headers"
    shouldPersistHeaders={false}
    // No history: it keeps the headers, and with them the access token, in the browser's storage.
    plugins={[]}
  >
    <GraphiQL.Logo>taskgraph</GraphiQL.Logo>
    <SharedHeaders />
  </GraphiQL>,
);

// A fragment never reaches a server or its log. It is removed so that it stays out of bookmarks and screenshots, too.
function headersFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return JSON.stringify({ authorization: `Bearer ${token}` }, null, 2);
}

// A link with a token that is opened in this window changes only the fragment, so the browser does not load the page anew.
addEventListener("hashchange", () => location.reload());
