/** What the tests run in a page, as functions on `window`: our runtime, connect-web and Google's grpc-web. */

import { createFileRegistry, fromBinary, type JsonObject, create, type DescService } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient, ConnectError, Code } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import * as grpcWeb from "grpc-web";

import { CallError, createTransport, type CallOptions, type ClientOptions } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";
import { bytes, field } from "./wire.ts";

const SERVICE = "/web.v1.WebService/";

/** What became of a call or a stream: its items and when each came, and how it ended. */
interface Told {
  items: unknown[];
  times: number[];
  took: number;
  error?: { code: string; message: string; details: unknown; violations: unknown } | string;
}

async function told(items: AsyncIterable<unknown>): Promise<Told> {
  const begun = performance.now();
  const all: Told = { items: [], times: [], took: 0 };
  try {
    for await (const item of items) {
      all.items.push(item);
      all.times.push(performance.now() - begun);
    }
  } catch (error) {
    all.error = error instanceof CallError
      ? { code: error.code, message: error.message, details: error.details, violations: error.violations }
      : error instanceof ConnectError ? { code: Code[error.code], message: error.rawMessage, details: error.details.length, violations: [] }
      : `${error}`;
  }
  all.took = performance.now() - begun;
  return all;
}

async function* one<T>(value: Promise<T>): AsyncGenerator<T> {
  yield await value;
}

const ours = {
  unary: (url: string, rpc: string, args: unknown, options?: CallOptions, client?: ClientOptions) =>
    told(one(createTransport(url, client).unary(SERVICE + rpc, args, options))),

  stream: (url: string, rpc: string, args: unknown, options?: CallOptions, client?: ClientOptions) =>
    told(createTransport(url, client).stream(SERVICE + rpc, args, options)),

  /** Reads some items of an endless stream and leaves it; the time when it left. */
  async leave(url: string, key: string, how: "break" | "stop" | "error" | "return", items = 3): Promise<number> {
    const stop = new AbortController();
    const stream = createTransport(url).stream<number>(`${SERVICE}Forever`, { key }, { signal: stop.signal });
    let left = 0;
    if (how === "return") {
      const iterator = stream[Symbol.asyncIterator]();
      for (let count = 0; count < items; count++) await iterator.next();
      left = Date.now();
      await iterator.return?.();
      return left;
    }
    try {
      for await (const item of stream) {
        if (item < items) continue;
        left = Date.now();
        if (how === "break") break;
        if (how === "error") throw new RangeError("mine");
        stop.abort();
      }
    } catch (error) {
      if (!(error instanceof RangeError) && !(error instanceof CallError && error.code === "CANCELLED")) throw error;
    }
    return left;
  },

  outcome: undefined as Told | undefined,
  ended: 0,

  /** Begins to read a stream; comes back with its first item, and leaves what became of it in `outcome`. */
  first(url: string, rpc: string, args: unknown, options?: CallOptions, client?: ClientOptions): Promise<unknown> {
    return new Promise((resolve) => {
      const items = createTransport(url, client).stream(SERVICE + rpc, args, options);
      void told((async function* () {
        for await (const item of items) {
          resolve(item);
          yield item;
        }
      })()).then((outcome) => {
        this.outcome = outcome;
        this.ended = Date.now();
      });
    });
  },

  /** Opens so many streams at the same time; how many gave an item while all of them were open. */
  async many(url: string, count: number): Promise<number> {
    const transport = createTransport(url, { timeoutMs: 20_000 });
    const streams = Array.from({ length: count }, (_, index) =>
      transport.stream<number>(`${SERVICE}Forever`, { key: `many ${index}` })[Symbol.asyncIterator]());
    const first = await Promise.all(streams.map((stream) => stream.next()));
    await Promise.all(streams.map((stream) => stream.return?.()));
    return first.filter((item) => item.value === 0).length;
  },

  async worker(url: string): Promise<unknown> {
    const worker = new Worker("worker.js", { type: "module" });
    worker.postMessage(url);
    return new Promise((resolve) => { worker.onmessage = (event) => { resolve(event.data); }; });
  },
};

/** connect-web, which needs no generated code: the descriptors are enough. */
async function connectWeb(url: string, method: string, args: unknown): Promise<Told> {
  const set = fromBinary(FileDescriptorSetSchema, new Uint8Array(await (await fetch("web.binpb")).arrayBuffer()));
  const service = createFileRegistry(set).getService("web.v1.WebService") as DescService;
  const client = createClient(service, createGrpcWebTransport({ baseUrl: url })) as unknown as
    Record<string, (request: unknown) => Promise<JsonObject> & AsyncIterable<JsonObject>>;
  const input = service.methods.find((candidate) => candidate.localName === method)!.input;
  const answer = client[method]!(create(input, { json: JSON.stringify(args) } as never));
  const values = Symbol.asyncIterator in answer ? answer : one(answer);
  return told((async function* () {
    for await (const item of values as AsyncIterable<JsonObject>) yield JSON.parse(item["json"] as string);
  })());
}

/** Google's grpc-web in text mode, the one that streams. */
function googles(url: string, rpc: string, args: unknown, streams: boolean): Promise<Told> {
  const read = (data: Uint8Array) => {
    // A Payload of json alone, after a tag and a size.
    const size = data.findIndex((byte, index) => index > 0 && byte < 128) + 1;
    return JSON.parse(new TextDecoder().decode(data.subarray(size)));
  };
  const write = (request: unknown) => field(2, JSON.stringify(request));
  const base = new grpcWeb.GrpcWebClientBase({ format: "text" });
  const type = streams ? grpcWeb.MethodType.SERVER_STREAMING : grpcWeb.MethodType.UNARY;
  const descriptor = new grpcWeb.MethodDescriptor(SERVICE + rpc, type, Object, Object, write, read);
  const begun = performance.now();
  const all: Told = { items: [], times: [], took: 0 };
  return new Promise((resolve) => {
    const fail = (error: grpcWeb.RpcError) => {
      const binary = error.metadata["grpc-status-details-bin"];
      all.error = { code: `${error.code}`, message: error.message, details: binary ? 1 : 0, violations: [] };
      resolve(all);
    };
    if (!streams) {
      base.rpcCall(url + SERVICE + rpc, args, {}, descriptor, (error, value) => {
        if (error) return fail(error);
        all.items.push(value);
        resolve(all);
      });
      return;
    }
    base.serverStreaming(url + SERVICE + rpc, args, {}, descriptor)
      .on("data", (item) => {
        all.items.push(item);
        all.times.push(performance.now() - begun);
      })
      .on("error", fail)
      .on("end", () => { resolve(all); });
  });
}

Object.assign(window, { ours, connectWeb, googles, bytes });
