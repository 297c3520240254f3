// What a Relay client asks of the schema: pages both ways, refetching by id, edges added to a connection, live events.
import { graphql } from "react-relay";

graphql`
  query TasksQuery($filter: TaskFilter) {
    viewer { id name }
    ...Tasks_page @arguments(filter: $filter)
  }
`;

graphql`
  fragment Tasks_page on Query
  @argumentDefinitions(
    filter: { type: "TaskFilter" }
    first: { type: "Int", defaultValue: 20 }
    last: { type: "Int" }
    after: { type: "String" }
    before: { type: "String" }
  )
  @refetchable(queryName: "TasksPageQuery") {
    tasks(filter: $filter, first: $first, last: $last, after: $after, before: $before) @connection(key: "Tasks_tasks") {
      edges { node { ...Tasks_task } }
    }
  }
`;

graphql`
  fragment Tasks_task on Task
  @argumentDefinitions(first: { type: "Int", defaultValue: 5 }, after: { type: "String" })
  @refetchable(queryName: "TasksTaskQuery") {
    title
    status
    subtasks(first: $first, after: $after) @connection(key: "Tasks_subtasks") { edges { node { id title } } }
  }
`;

graphql`
  mutation TasksCreateMutation($input: CreateTaskInput!, $connections: [ID!]!) {
    createTask(input: $input) {
      task @prependNode(connections: $connections, edgeTypeName: "TaskEdge") { id ...Tasks_task }
      errors { code message path }
    }
  }
`;

graphql`
  subscription TasksSubscription($after: EventCursor) {
    taskEvents(after: $after) { __typename ... on TaskEvent { task { ...Tasks_task } } }
  }
`;
