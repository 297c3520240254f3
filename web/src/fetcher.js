// Sends what GraphiQL runs: queries and mutations by HTTP, subscriptions by WebSocket, both to /graphql of this server.
import { getOperationAST, parse } from "graphql";
import { createClient } from "graphql-ws";

const HTTP_URL = new URL("/graphql", location.origin).href;
const WS_URL = HTTP_URL.replace(/^http/, "ws");

export function fetcher(asked, { headers = {} } = {}) {
  const operation = chosen(asked);
  const request = { ...asked, operationName: operation?.name?.value };
  return operation?.operation === "subscription" ? subscription(request, headers) : answer(request, headers);
}

function chosen({ query, operationName }) {
  try {
    const document = parse(query);
    // Just after a change of tabs GraphiQL still names the operation of the tab before; a lone operation needs no name.
    return getOperationAST(document, operationName) ?? getOperationAST(document);
  } catch {
    return null; // The server says best what is wrong with an unreadable document.
  }
}

async function answer(request, headers) {
  const response = await fetch(HTTP_URL, {
    method: "POST",
    headers: {
      accept: "application/graphql-response+json, application/json;q=0.9",
      ...headers,
      "content-type": "application/json",
    },
    body: JSON.stringify(request),
  });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return failure(`HTTP ${response.status} without JSON: ${text.slice(0, 500)}`);
  }
}

function subscription(request, headers) {
  return {
    subscribe(observer) {
      // One connection for each run, opened by it and closed after it: a token changed in between is never missed.
      const client = createClient({
        url: WS_URL,
        connectionParams: () => signIn(headers),
        // Starting again silently would skip the events in between, and would hide why the server closed.
        retryAttempts: 0,
      });
      const unsubscribe = client.subscribe(request, {
        next: (result) => observer.next(result),
        error: (error) => observer.error(explained(error)),
        complete: () => observer.complete(),
      });
      return { unsubscribe };
    },
  };
}

function signIn(headers) {
  const name = Object.keys(headers).find((name) => name.toLowerCase() === "authorization");
  return name && { authorization: headers[name] };
}

function explained(error) {
  if (!(error instanceof CloseEvent)) return error;
  const reason = error.reason || "the connection was lost or refused";
  return { message: `The subscription has ended: ${reason} (close code ${error.code})` };
}

function failure(message) {
  return { errors: [{ message }] };
}
