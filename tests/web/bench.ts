/** What the benchmark's client in Node does. Arguments: a library, a URL, a descriptor set. Commands come on stdin. */

import { create, createFileRegistry, fromBinary, type DescService, type JsonObject } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { createTransport } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";

const [library, url, descriptors] = process.argv.slice(2) as [string, string, string];

type Open = (name: string, text: string, count: number) => AsyncIterable<unknown>;

const pascal = (name: string) => name.split("_").map((part) => part[0]!.toUpperCase() + part.slice(1)).join("");

function ours(): Open {
  const transport = createTransport(url);
  return (name, text, count) => transport.stream(`/bench.v1.ChatService/${pascal(name)}`, { text, count });
}

function connectWeb(): Open {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
  const service = registry.getService("bench.v1.ChatService") as DescService;
  const client = createClient(service, createGrpcWebTransport({ baseUrl: url })) as unknown as
    Record<string, (request: unknown) => AsyncIterable<JsonObject>>;
  return async function* (name, text, count) {
    const method = service.methods.find((candidate) => candidate.name === pascal(name))!;
    const request = create(method.input, { json: JSON.stringify({ text, count }) } as never);
    for await (const item of client[method.localName]!(request)) yield JSON.parse(item["json"] as string);
  };
}

const open = library === "runtime" ? ours() : connectWeb();

async function stream(name: string, text: string, count: number, seconds: number): Promise<[number, number]> {
  const start = performance.now();
  let done = 0;
  do {
    let items = 0;
    for await (const item of open(name, text, count)) if (item === text) items++;
    if (items !== count) throw new Error(`${items} of ${count} items came`);
    done += items;
  } while (performance.now() < start + seconds * 1000);
  return [done, done / (performance.now() - start) * 1000];
}

async function first(name: string, text: string, count: number, seconds: number): Promise<[number, number]> {
  const until = performance.now() + seconds * 1000;
  const times: number[] = [];
  do {
    const start = performance.now();
    let time = 0;
    for await (const _ of open(name, text, count)) time ||= performance.now() - start;
    times.push(time);
  } while (performance.now() < until);
  return [times.length, times.sort((a, b) => a - b)[times.length >> 1]!];
}

function usage(): [number, number] {
  const { user, system } = process.cpuUsage();
  return [(user + system) / 1e6, process.memoryUsage.rss()];
}

for await (const line of createInterface(process.stdin)) {
  const [command, ...given] = JSON.parse(line) as [string, string, string, number, number];
  const answer = command === "stream" ? await stream(...given) : command === "first" ? await first(...given) : usage();
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
