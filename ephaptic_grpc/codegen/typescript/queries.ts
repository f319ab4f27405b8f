import type { CallOptions, Stream } from "./runtime.ts";

/** What TanStack Query (version 5) takes, for `useQuery` and its like. */
export interface Query<T> {
  queryKey: readonly unknown[];
  queryFn(context: QueryContext): Promise<T>;
}

/** What TanStack Query hands to a query, as far as it is needed here. */
export interface QueryContext {
  signal: AbortSignal;
  client: { setQueryData(queryKey: readonly unknown[], data: unknown): unknown };
}

/** A call as a query: it ends when nobody wants its data any more. */
export function asQuery<T>(queryKey: readonly unknown[], call: (options: CallOptions) => Promise<T>): Query<T> {
  return { queryKey, queryFn: ({ signal }) => call({ signal }) };
}

/** A stream as a query: its data is all items so far, and leaving it ends the function on the server. */
export function streamedQuery<T>(queryKey: readonly unknown[], call: (options: CallOptions) => Stream<T>): Query<T[]> {
  return {
    queryKey,
    async queryFn({ signal, client }) {
      let items: T[] = [];
      for await (const item of call({ signal })) {
        items = [...items, item];
        client.setQueryData(queryKey, items);
      }
      return items;
    },
  };
}
