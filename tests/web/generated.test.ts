/** What TypeScript makes of a generated client, and TanStack Query of its queries. Types are checked by `tsc`. */

import { QueryClient, QueryObserver } from "@tanstack/query-core";
import { expect, expectTypeOf, test } from "vitest";

import {
  connect, queries, type Cat, type CatInput, type Dog, type Everything, type EverythingInput, type Node, type Pair,
  type ShapesService, type Stream,
} from "../golden/shapes_client.ts";
import { body, bytes, field, frame, GRPC_WEB, message, trailer } from "./wire.ts";

const requests: [string, string][] = [];

/** A client whose server answers with these values, and remembers what it was sent. */
function client(...values: unknown[]): ShapesService {
  requests.length = 0;
  return connect("http://shapes.example", {
    fetch: async (url, init) => {
      requests.push([`${url}`, new TextDecoder().decode((init!.body as Uint8Array).subarray(7))]);
      return new Response(body([...values.map((value) => message(value)), trailer(0)]), { headers: GRPC_WEB });
    },
  });
}

test("types are those of the functions", () => {
  expectTypeOf<Parameters<ShapesService["echo"]>[0]>().toEqualTypeOf<EverythingInput>();
  expectTypeOf<ReturnType<ShapesService["echo"]>>().toEqualTypeOf<Promise<Everything>>();
  expectTypeOf<ReturnType<ShapesService["trees"]>>().toEqualTypeOf<Stream<Node>>();
  expectTypeOf<Everything["maybe"]>().toEqualTypeOf<number | null>();
  expectTypeOf<Everything["fixed"]>().toEqualTypeOf<[number, string]>();
  expectTypeOf<Everything["literal"]>().toEqualTypeOf<"a" | 1 | null>();
  expectTypeOf<Everything["anything"]>().toBeUnknown();
  expectTypeOf<Everything["by_name"]>().toEqualTypeOf<{ [key: string]: number[] }>();
  expectTypeOf<Pair>().toEqualTypeOf<[number, string]>();
  expectTypeOf<Node["children"]>().toEqualTypeOf<Node[]>();
  // A default can be left out of what is sent, and is always there in what comes back.
  expectTypeOf<CatInput>().toEqualTypeOf<{ kind?: "cat"; lives?: number }>();
  expectTypeOf<Cat>().toEqualTypeOf<{ kind: "cat"; lives: number }>();
  const lives = (pet: Cat | Dog) => pet.kind === "cat" ? pet.lives : pet.good;
  expect(lives({ kind: "dog", good: true })).toBe(true);
  // @ts-expect-error a colour that there isn't
  void (() => client().pets("green"));
  // @ts-expect-error a needed field is missing
  void (() => client().trees({}));
});

test("arguments go by name, and those left out aren't sent", async () => {
  await client({ items: [], next: null }).list(undefined, 5);
  expect(requests).toEqual([["http://shapes.example/shapes.v1.ShapesService/List", '{"max":5}']]);
  for await (const _ of client().trees({ value: 1 }, 2, { name: null })) void _;
  expect(requests[0]![1]).toBe('{"name":null,"node":{"value":1},"depth":2}');
  await client(null).nothing();
  expect(requests[0]![1]).toBe("");
});

test("arguments go by position where a function takes them so", async () => {
  await client([]).find("x");
  expect(requests[0]![1]).toBe('["x"]');
  await client([]).find("x", [1], [2, 3]);
  expect(requests[0]![1]).toBe('["x",[1],2,3]');
  expect(() => client([]).find("x", undefined, [2])).toThrow("an argument is left out that comes before one that is given");
});

test("a unary function is a query", async () => {
  const cache = new QueryClient();
  const shapes = client({ items: [], next: "2" });
  const page = await cache.fetchQuery(queries(shapes).list(2));
  expectTypeOf(page.next).toEqualTypeOf<string | null>();
  expect(page).toEqual({ items: [], next: "2" });
  expect(queries(shapes).list(2).queryKey).toEqual(["shapes.v1.ShapesService", "list", 2, undefined]);
});

test("a stream is a query, whose data grows; to leave it ends the request", async () => {
  let left = false;
  const shapes = connect("http://shapes.example", {
    fetch: async (_, init) => {
      init!.signal!.addEventListener("abort", () => { left = true; });
      return new Response(body([message({ value: 1 }), frame(bytes(field(2, '{"value":2}')))], "waits"), { headers: GRPC_WEB });
    },
  });
  const observer = new QueryObserver(new QueryClient(), queries(shapes).trees({ value: 0 }));
  const seen: number[] = [];
  const end = observer.subscribe(({ data }) => {
    if (data && data.length !== seen.at(-1)) seen.push(data.length);
  });
  await expect.poll(() => seen).toEqual([1, 2]);
  expect(left).toBe(false);
  end();
  await expect.poll(() => left).toBe(true);
});
