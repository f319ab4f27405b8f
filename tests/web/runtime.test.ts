/** The runtime alone: what it makes of bytes, and what it sends. Whole programs are in the tests of browsers. */

import { buildSync } from "esbuild";
import fc from "fast-check";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";

import { CallError, createTransport, type CallOptions, type ClientOptions } from "../../ephaptic_grpc/codegen/typescript/runtime.ts";
import { body, bytes, details, field, frame, GRPC_WEB, heartbeat, message, trailer } from "./wire.ts";

const PATH = "/shop.v1.ShopService/Count";

/** A transport to a server that gives these answers, and the requests that it got. */
function server(answer: (request: Request) => Response | Promise<Response>, options: ClientOptions = {}) {
  const requests: Request[] = [];
  const transport = createTransport("http://shop.example", {
    ...options,
    fetch: async (url, init) => {
      init?.signal?.throwIfAborted();
      const request = new Request(url, init);
      Object.defineProperty(request, "signal", { value: init?.signal }); // its own goes with it to the garbage collector
      requests.push(request);
      return answer(request);
    },
  });
  return { ...transport, requests };
}

const answering = (chunks: Uint8Array[], then: "ends" | "breaks" | "waits" = "ends", options: ClientOptions = {}) =>
  server((request) => {
    const whole = body(chunks, then);
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    whole.pipeTo(writable, { signal: request.signal }).catch(() => {});
    return new Response(readable, { headers: GRPC_WEB });
  }, options);

async function read<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** The items before an error, and the error. */
async function readUntilError(stream: AsyncIterable<unknown>): Promise<[unknown[], CallError]> {
  const items: unknown[] = [];
  try {
    for await (const item of stream) items.push(item);
  } catch (error) {
    expect(error).toBeInstanceOf(CallError);
    return [items, error as CallError];
  }
  throw new Error(`a clean end after ${JSON.stringify(items)}`);
}

async function failure(promise: Promise<unknown>): Promise<CallError> {
  const error: unknown = await promise.then(() => undefined, (error: unknown) => error);
  expect(error).toBeInstanceOf(CallError);
  return error as CallError;
}

function cut(data: Uint8Array, at: number[]): Uint8Array[] {
  const places = [0, ...at.map((place) => place % (data.length + 1)).sort((a, b) => a - b), data.length];
  return places.slice(1).map((place, index) => data.slice(places[index], place));
}

const ok = trailer(0);
const json = fc.jsonValue({ maxDepth: 2 }).filter((value) => !/\d{16}/.test(JSON.stringify(value)));
const places = fc.array(fc.nat(100_000), { maxLength: 40 });

describe("items", () => {
  test("arrive whole, however the body is cut, alone or in batches, between signs of life", async () => {
    const messages = fc.array(fc.array(json, { maxLength: 5 }));
    await fc.assert(fc.asyncProperty(messages, places, async (batches, at) => {
      const whole = bytes(...batches.map((values) => message(...values)), ok);
      const expected: unknown = JSON.parse(JSON.stringify(batches.flat()));
      expect(await read(answering(cut(whole, at)).stream(PATH, {}))).toEqual(expected);
    }));
  });

  test("arrive whole, byte by byte", async () => {
    const values = ["ä€😀", 0, "", null, false, [], {}, "x".repeat(200), Array.from({ length: 70 }, (_, index) => index)];
    const whole = bytes(...values.map((value) => message(value)), heartbeat, message(1, 2, 3), ok);
    expect(await read(answering(Array.from(whole, (byte) => Uint8Array.of(byte))).stream(PATH, {}))).toEqual([...values, 1, 2, 3]);
  });

  test("come as soon as they are there", async () => {
    const iterator = answering([message("first")], "waits").stream(PATH, {})[Symbol.asyncIterator]();
    expect(await iterator.next()).toEqual({ value: "first", done: false });
    await iterator.return?.();
  });

  test("may be none", async () => {
    expect(await read(answering([ok]).stream(PATH, {}))).toEqual([]);
    const noBody = server(() => new Response(null, { headers: { ...GRPC_WEB, "grpc-status": "0" } }));
    expect(await read(noBody.stream(PATH, {}))).toEqual([]);
  });

  test("of unknown fields are skipped", async () => {
    const odd = frame(bytes([0x28, 0x96, 0x01, 0x31, 1, 2, 3, 4, 5, 6, 7, 8, 0x3d, 1, 2, 3, 4], field(1, "x"), field(2, "7"), field(9, "y")));
    expect(await read(answering([odd, ok]).stream(PATH, {}))).toEqual([7]);
  });

  test("of 4 MiB in small chunks take no time to speak of", async () => {
    const value = "x".repeat(4 * 1024 * 1024);
    const whole = message(value);
    const chunks = Array.from({ length: Math.ceil(whole.length / 1024) }, (_, index) => whole.subarray(index * 1024, (index + 1) * 1024));
    expect((await read(answering([...chunks, ok]).stream<string>(PATH, {})))[0]?.length).toBe(value.length);
  });
});

describe("an end", () => {
  test("that isn't told is UNAVAILABLE, wherever the body is cut off", async () => {
    const whole = bytes(message(1), message(2, 3), heartbeat, ok);
    for (let length = 0; length < whole.length; length++) {
      for (const then of ["ends", "breaks"] as const) {
        const [items, error] = await readUntilError(answering([whole.slice(0, length)], then).stream(PATH, {}));
        expect(error.code).toBe("UNAVAILABLE");
        expect([1, 2, 3].slice(0, items.length)).toEqual(items);
      }
    }
  });

  test("in a 200 with nothing in it is none", async () => {
    const empty = server(() => new Response(null, { headers: GRPC_WEB }));
    expect((await failure(empty.unary(PATH, {}))).code).toBe("UNAVAILABLE");
    expect((await readUntilError(empty.stream(PATH, {})))[1].code).toBe("UNAVAILABLE");
    const bare = server(() => new Response(null));
    expect(await failure(bare.unary(PATH, {}))).toMatchObject({ code: "UNKNOWN", message: `not a gRPC-Web answer: HTTP 200, no content type, from http://shop.example${PATH}` });
  });

  test.each([
    ["", "UNKNOWN"], ["x", "UNKNOWN"], ["99", "UNKNOWN"], ["-1", "UNKNOWN"], ["0x0", "UNKNOWN"], ["length", "UNKNOWN"],
    ["1", "CANCELLED"], ["7", "PERMISSION_DENIED"], ["16", "UNAUTHENTICATED"],
  ])("of status %j is %s", async (status, code) => {
    expect((await readUntilError(answering([trailer(status)]).stream(PATH, {})))[1].code).toBe(code);
    expect((await readUntilError(answering([frame(`GRPC-STATUS:${status}\n`, 0x80)]).stream(PATH, {})))[1].code).toBe(code);
  });

  test("without a status is no clean end", async () => {
    expect((await readUntilError(answering([frame("x-other: 1\r\n", 0x80)]).stream(PATH, {})))[1].code).toBe("UNKNOWN");
  });

  test.each(["", "localhost:1/rpc", "http://127.0.0.1:1/rpc/"])("where nothing answers, at %j, names it, and has fetch's cause", async (url) => {
    const error = await failure(createTransport(url).unary(PATH, {}));
    expect(error).toMatchObject({ code: "UNAVAILABLE", cause: expect.any(TypeError) as TypeError });
    expect(error.message).toMatch(`${url.replace(/\/$/, "")}${PATH} can't be reached, `);
  });

  test.each([
    [200, "UNKNOWN"], [400, "INTERNAL"], [401, "UNAUTHENTICATED"], [403, "PERMISSION_DENIED"], [404, "UNIMPLEMENTED"],
    [418, "UNKNOWN"], [429, "UNAVAILABLE"], [500, "UNKNOWN"], [502, "UNAVAILABLE"], [503, "UNAVAILABLE"], [504, "UNAVAILABLE"],
  ])("with an HTML page and HTTP %i is %s", async (status, code) => {
    const page = server(() => new Response("<h1>Sorry</h1>", { status, headers: { "content-type": "text/html" } }));
    expect(await failure(page.unary(PATH, {}))).toMatchObject({ code, message: `not a gRPC-Web answer: HTTP ${status}, text/html, from http://shop.example${PATH}` });
  });
});

describe("an error", () => {
  const violation = (name: string, text: string) => field(1, bytes(field(1, name), field(2, text)));
  const packed = details(
    ["google.rpc.BadRequest", bytes(violation("user.city", "too short"), violation("n", "ö"))],
    ["ephaptic_grpc.v1.Payload", field(2, '{"id":7}')],
    ["shop.v1.Other", bytes([1, 2])],
  );
  const expected = {
    code: "NOT_FOUND",
    message: "no such ö, 100%",
    details: [{ id: 7 }, { type: "shop.v1.Other", value: bytes([1, 2]) }],
    violations: [{ field: "user.city", description: "too short" }, { field: "n", description: "ö" }],
  };
  const lines = { "grpc-message": "no such %C3%B6, 100%25", "grpc-status-details-bin": packed };

  test("before the first item comes in headers", async () => {
    const early = server(() => new Response(null, { headers: { ...GRPC_WEB, "grpc-status": "5", ...lines } }));
    expect(await failure(early.unary(PATH, {}))).toMatchObject(expected);
    expect(await readUntilError(early.stream(PATH, {}))).toMatchObject([[], expected]);
  });

  test("after some items comes after them", async () => {
    expect(await readUntilError(answering([message(1, 2), message(3), trailer(5, lines)]).stream(PATH, {}))).toMatchObject([[1, 2, 3], expected]);
  });

  test("has its details with and without padding", async () => {
    for (const binary of [packed, packed.replace(/=+$/, "")]) {
      const error = await failure(answering([trailer(5, { "grpc-status-details-bin": binary })]).unary(PATH, {}));
      expect(error.details[0]).toEqual({ id: 7 });
    }
  });

  test.each(["%%%", "AAAA", "////", "(", packed.slice(0, 20)])("keeps its code with the details %j", async (binary) => {
    const error = await failure(answering([trailer(5, { "grpc-message": "gone", "grpc-status-details-bin": binary })]).unary(PATH, {}));
    expect(error).toMatchObject({ code: "NOT_FOUND", message: "gone" });
  });

  test("says when a client is older than its server", async () => {
    const info = bytes(field(1, "CONTRACT_CHANGED"), field(2, "ephaptic_grpc"), field(3, bytes(field(1, "server"), field(2, "b"))));
    const changed = trailer(3, { "grpc-status-details-bin": details(["google.rpc.ErrorInfo", info]) });
    const error = await failure(answering([changed]).unary(PATH, {}));
    expect(error.stale).toBe(true);
    expect(error.details).toEqual([{ type: "google.rpc.ErrorInfo", value: info, reason: "CONTRACT_CHANGED" }]);
    for (const [code, message, stale] of [
      [12, "Method not found!", true], [12, "no such function: /a/B", true], [12, "not yet", false], [5, "no such function", false],
    ] as const) {
      expect(await failure(answering([trailer(code, { "grpc-message": message })]).unary(PATH, {}))).toMatchObject({ stale });
    }
    expect((await failure(answering([trailer(5, lines)]).unary(PATH, {}))).stale).toBe(false);
  });

  test("keeps a message that is badly encoded", async () => {
    expect((await failure(answering([trailer(5, { "grpc-message": "100%" })]).unary(PATH, {}))).message).toBe("100%");
  });
});

describe("malformed", () => {
  test.each([
    ["a compressed frame", frame(field(2, "1"), 1)],
    ["a compressed trailer", frame("grpc-status: 0", 0x81)],
    ["a cut-off field", frame([0x12, 5, 0x31] as unknown as Uint8Array)],
    ["an endless varint", frame(new Uint8Array(20).fill(0xff))],
    ["a group", frame(bytes([0x13]))],
    ["bad JSON", frame(field(2, "{"))],
    ["bad UTF-8", frame(field(2, bytes('"', [0xff], '"')))],
  ])("%s is INTERNAL", async (_, data) => {
    const [items, error] = await readUntilError(answering([message(1), data, ok]).stream(PATH, {}));
    expect([items, error.code]).toEqual([[1], "INTERNAL"]);
    expect(error.message).toMatch(/^malformed answer: /);
  });

  test.each([[[ok]], [[message(1), message(2), ok]], [[message(1, 2), ok]]])("is a value that isn't one", async (chunks) => {
    expect((await failure(answering(chunks).unary(PATH, {}))).code).toBe("INTERNAL");
  });

  test("bytes of any kind end in a CallError", async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), places, async (data, at) => {
      await readUntilError(answering(cut(data, at)).stream(PATH, {}));
    }));
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (data) => {
      await read(answering([frame(data), ok]).stream(PATH, {})).catch((error: unknown) => { expect(error).toBeInstanceOf(CallError); });
    }));
  });
});

describe("integers", () => {
  const answer = (json: string) => answering([frame(field(2, json)), ok]).unary<unknown>(PATH, {});

  test.each([
    ["9007199254740993", "the value is 9007199254740993"],
    ["-9007199254740992", "the value is -9007199254740992"],
    ['{"user":{"ids":[1,12345678901234567890]}}', "user.ids[1] is 12345678901234567890"],
    ['[[{"a b":100000000000000000000}]]', "[0][0].a b is 100000000000000000000"],
  ])("of %s are refused by name", async (json, said) => {
    expect(await failure(answer(json))).toMatchObject({ code: "INTERNAL", message: `${said}, which a JavaScript number can't hold` });
  });

  test("in a batch are named as in their own item", async () => {
    const batch = frame(bytes(field(2, '{"id":1}'), field(4, '{"id":12345678901234567}')));
    expect((await readUntilError(answering([batch, ok]).stream(PATH, {})))[1].message).toMatch(/^id is 12345678901234567,/);
  });

  test.each(["9007199254740991", "-9007199254740991", "1e300", "12345678901234567.5", "0.1234567890123456789", "1.0E+20",
    '"12345678901234567890"', '"\\"12345678901234567890"', '{"12345678901234567890":1}', '["\\\\",1234567890123456,"1"]',
  ])("%s is no such integer", async (json) => {
    expect(await answer(json)).toEqual(JSON.parse(json));
  });

  test("are never another number", async () => {
    await fc.assert(fc.asyncProperty(fc.bigInt(), async (integer) => {
      const value = await answer(`{"n":${integer}}`).catch(() => undefined) as { n: number } | undefined;
      if (value) expect(BigInt(value.n)).toBe(integer);
      else expect(Number.isSafeInteger(Number(integer))).toBe(false);
    }));
  });
});

describe("a request", () => {
  const echo = (options: ClientOptions = {}) => server(() => new Response(message(true), { headers: GRPC_WEB }), options);

  async function sent(args: unknown, options?: CallOptions, defaults?: ClientOptions, streams = false) {
    const to = server(() => new Response(bytes(message(true), ok), { headers: GRPC_WEB }), defaults);
    await (streams ? read(to.stream(PATH, args, options)) : to.unary(PATH, args, options));
    const request = to.requests[0]!;
    return { request, headers: Object.fromEntries(request.headers), body: new Uint8Array(await request.arrayBuffer()) };
  }

  test("carries arguments as JSON", async () => {
    expect((await sent(undefined)).body).toEqual(frame(""));
    await fc.assert(fc.asyncProperty(fc.jsonValue(), async (value) => {
      const args = { value, long: "ö".repeat(100), missing: undefined };
      expect((await sent(args)).body).toEqual(frame(field(2, JSON.stringify(args))));
    }));
    for (const length of [127, 128, 16383, 16384, 3_000_000]) {
      const args = "x".repeat(length - 2);
      expect(Buffer.compare((await sent(args)).body, frame(field(2, JSON.stringify(args))))).toBe(0);
    }
  });

  test("goes to the function's path by POST", async () => {
    const { request, headers } = await sent([]);
    expect([request.method, request.url]).toEqual(["POST", `http://shop.example${PATH}`]);
    expect(headers).toEqual({ "content-type": "application/grpc-web+proto", "x-grpc-web": "1" });
  });

  test("for a stream asks for batches and signs of life", async () => {
    expect((await sent([], {}, {}, true)).headers).toMatchObject({ "ephaptic-batch": "1", "ephaptic-heartbeat": "15000" });
    expect((await sent([], {}, { heartbeatMs: 250 }, true)).headers).toMatchObject({ "ephaptic-heartbeat": "250" });
    expect((await sent([], {}, { heartbeatMs: 5 }, true)).headers).toMatchObject({ "ephaptic-heartbeat": "100" });
    expect((await sent([], {}, { heartbeatMs: Infinity }, true)).headers).not.toHaveProperty("ephaptic-heartbeat");
  });

  test.each([
    [5000, "5000m"], [0.5, "1m"], [99_999_999, "99999999m"], [100_000_000, "100000S"], [2 ** 31, "2147484S"], [Infinity, undefined],
  ])("with a timeout of %d says %s", async (timeoutMs, said) => {
    expect((await sent([], { timeoutMs })).headers["grpc-timeout"]).toBe(said);
    expect((await sent([], {}, { timeoutMs })).headers["grpc-timeout"]).toBe(said);
    expect((await sent([], { timeoutMs }, { timeoutMs: 7 })).headers["grpc-timeout"]).toBe(said);
  });

  test("carries headers: of the client, of the call, made for each", async () => {
    let token = 0;
    const client = { headers: () => Promise.resolve({ authorization: `Bearer ${++token}`, "x-tenant": "a" }) };
    expect((await sent([], { headers: { "X-Tenant": "b" } }, client)).headers).toMatchObject({ authorization: "Bearer 1", "x-tenant": "b" });
    expect((await sent([], { headers: () => [["x-more", "1"]] }, client)).headers).toMatchObject({ authorization: "Bearer 2", "x-more": "1" });
    expect((await sent([], { headers: { "content-type": "text/plain" } })).headers["content-type"]).toBe("application/grpc-web+proto");
  });

  test("that can't be made is its maker's error, not the network's", async () => {
    const mistake = new Error("no token");
    const to = echo();
    await expect(to.unary(PATH, {}, { headers: () => { throw mistake; } })).rejects.toBe(mistake);
    await expect(to.unary(PATH, { n: NaN })).rejects.toThrow(new TypeError("n is NaN, which JSON can't carry"));
    await expect(to.unary(PATH, { n: [1n] })).rejects.toThrow(new TypeError("0 is 1, which JSON can't carry"));
    await expect(to.unary(PATH, {}, { headers: { "bad name": "" } })).rejects.toThrow(TypeError);
    expect(to.requests).toEqual([]);
  });
});

describe("leaving", () => {
  /** A server of an endless stream, that tells when a request was given up. */
  function endless(options: ClientOptions = {}) {
    let given = (_: unknown) => {};
    const left = new Promise((resolve) => { given = resolve; });
    const to = server((request) => {
      request.signal.addEventListener("abort", () => { given(true); });
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      body([message(1, 2), message(3)], "waits").pipeTo(writable, { signal: request.signal }).catch(() => {});
      return new Response(readable, { headers: GRPC_WEB });
    }, options);
    return { ...to, left };
  }

  test("by break ends the request", async () => {
    const { stream, left } = endless();
    for await (const item of stream(PATH, {})) {
      expect(item).toBe(1);
      break;
    }
    expect(await left).toBe(true);
  });

  test("by an error in the loop ends the request", async () => {
    const { stream, left } = endless();
    await expect((async () => {
      for await (const _ of stream(PATH, {})) throw new RangeError("mine");
    })()).rejects.toThrow(new RangeError("mine"));
    expect(await left).toBe(true);
  });

  test("by return, while an item is awaited, ends both at once", async () => {
    const { stream, left } = endless();
    const iterator = stream(PATH, {})[Symbol.asyncIterator]();
    for (let count = 0; count < 3; count++) await iterator.next();
    const next = iterator.next();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(await left).toBe(true);
  });

  test("before the first item sends nothing", async () => {
    const { stream, requests } = endless();
    const iterator = stream(PATH, {})[Symbol.asyncIterator]();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(requests).toEqual([]);
  });

  test("by a signal is CANCELLED, also between the items of a batch", async () => {
    for (const after of [1, 2, 3]) {
      const { stream, left } = endless();
      const stop = new AbortController();
      const items: unknown[] = [];
      const reading = (async () => {
        for await (const item of stream(PATH, {}, { signal: stop.signal })) {
          items.push(item);
          if (items.length === after) stop.abort(new Error("enough"));
        }
      })();
      expect(await failure(reading)).toMatchObject({ code: "CANCELLED", cause: new Error("enough") });
      expect(items).toEqual([1, 2, 3].slice(0, after));
      expect(await left).toBe(true);
    }
  });

  test("before it begins", async () => {
    const { unary } = endless();
    expect((await failure(unary(PATH, {}, { signal: AbortSignal.abort() }))).code).toBe("CANCELLED");
  });

  test("when the time is up is DEADLINE_EXCEEDED, whether the call says so or its client", async () => {
    const slow = server((request) => new Promise((_, reject) => {
      request.signal.addEventListener("abort", () => { reject(request.signal.reason as Error); });
    }));
    expect((await failure(slow.unary(PATH, {}, { timeoutMs: 20 }))).code).toBe("DEADLINE_EXCEEDED");
    expect((await readUntilError(endless({ timeoutMs: 50 }).stream(PATH, {})))).toMatchObject([[1, 2, 3], { code: "DEADLINE_EXCEEDED" }]);
  });

  test("when headers never come is bounded by the time and the signal", async () => {
    const { unary, stream, requests } = endless({ headers: () => new Promise(() => {}) });
    expect((await failure(unary(PATH, {}, { timeoutMs: 20 }))).code).toBe("DEADLINE_EXCEEDED");
    expect((await failure(unary(PATH, {}, { signal: AbortSignal.timeout(20) }))).code).toBe("CANCELLED");
    const iterator = stream(PATH, {})[Symbol.asyncIterator]();
    const next = iterator.next();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await next).toEqual({ done: true, value: undefined });
    expect(requests).toEqual([]);
  });

  test("a server that has fallen silent is UNAVAILABLE", async () => {
    const quiet = answering([message(1), heartbeat], "waits", { heartbeatMs: 10 });
    expect(await readUntilError(quiet.stream(PATH, {}))).toMatchObject([[1], { code: "UNAVAILABLE", message: "the server has fallen silent" }]);
  });

  test("a server that never gave a sign of life may be quiet", async () => {
    const quiet = answering([message(1)], "waits", { heartbeatMs: 1 });
    const reading = readUntilError(quiet.stream(PATH, {}, { timeoutMs: 500 }));
    expect(await reading).toMatchObject([[1], { code: "DEADLINE_EXCEEDED" }]);
  });

  test("a stream that has ended leaves the connection to the next call, and no listener behind", async () => {
    let aborted = false;
    const to = server((request) => {
      request.signal.addEventListener("abort", () => { aborted = true; });
      return new Response(bytes(message(1), ok), { headers: GRPC_WEB });
    });
    const stop = new AbortController();
    expect(await read(to.stream(PATH, {}, { signal: stop.signal }))).toEqual([1]);
    stop.abort();
    expect(aborted).toBe(false);
  });
});

test("a stream can be awaited, and is read once", async () => {
  const stream = await answering([message(1), ok]).stream(PATH, {});
  expect(await read(stream)).toEqual([1]);
  await expect(read(stream)).rejects.toThrow("a stream is read once: call the function again");
});

test("it takes at most 3 KiB, minified and compressed, and needs nothing else", () => {
  const entry = fileURLToPath(new URL("../../ephaptic_grpc/codegen/typescript/runtime.ts", import.meta.url));
  const built = buildSync({ entryPoints: [entry], bundle: true, minify: true, format: "esm", target: "es2022", write: false, metafile: true });
  expect(Object.keys(built.metafile.inputs)).toHaveLength(1);
  const size = gzipSync(built.outputFiles[0]!.contents, { level: 9 }).length;
  console.info(`runtime: ${size} bytes, minified and gzipped`);
  expect(size).toBeLessThanOrEqual(3 * 1024);
});
