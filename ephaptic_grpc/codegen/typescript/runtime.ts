/**
 * Calls functions that ephaptic_grpc serves, over gRPC-Web and fetch: in browsers, in workers, in Node 20 and later.
 * It needs nothing else.
 */

/** Why a call failed: the name of a gRPC status. */
export type Code = "CANCELLED" | "UNKNOWN" | "INVALID_ARGUMENT" | "DEADLINE_EXCEEDED" | "NOT_FOUND" | "ALREADY_EXISTS"
  | "PERMISSION_DENIED" | "RESOURCE_EXHAUSTED" | "FAILED_PRECONDITION" | "ABORTED" | "OUT_OF_RANGE" | "UNIMPLEMENTED"
  | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" | "UNAUTHENTICATED";

/** An argument that doesn't fit: where it is, such as `user.addresses[0].city`, and why. */
export interface Violation {
  field: string;
  description: string;
}

/**
 * A call that failed: `code` says how, `details` has what the function added, `violations` which arguments don't fit.
 *
 * A detail that is a protobuf message has its `type` and `value`; a `google.rpc.ErrorInfo` has its `reason`, too.
 */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly code: Code;
  readonly details: readonly unknown[];
  readonly violations: readonly Violation[];

  constructor(
    code: Code, message: string, details: readonly unknown[] = [], violations: readonly Violation[] = [], cause?: unknown,
  ) {
    super(message, { cause });
    this.code = code;
    this.details = details;
    this.violations = violations;
  }

  /** Whether it failed since this client was generated from an older contract than the server's: generate it again. */
  get stale() {
    // What servers say of a path that they don't know; a function chooses its words.
    return (this.code === "UNIMPLEMENTED" && /^(Method not|no such) f/.test(this.message)) ||
      this.details.some((detail) => (detail as { reason?: unknown } | null)?.reason === "CONTRACT_CHANGED");
  }
}

/** Headers of a request, or a function that makes them for each call, for tokens that expire. */
export type CallHeaders = GivenHeaders | (() => GivenHeaders | Promise<GivenHeaders>);
type GivenHeaders = NonNullable<RequestInit["headers"]>;

export interface CallOptions {
  /** Aborting it ends the call with CANCELLED, and the function on the server. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until the call ends with DEADLINE_EXCEEDED, here and on the server. */
  timeoutMs?: number | undefined;
  /** Sent with the call; of the same name, they replace those of the client. */
  headers?: CallHeaders | undefined;
}

export interface ClientOptions {
  /** Milliseconds that each call may take, unless it says otherwise. */
  timeoutMs?: number | undefined;
  /** Sent with every call. */
  headers?: CallHeaders | undefined;
  /** In place of the global one: to send cookies to another site, say. */
  fetch?: typeof fetch | undefined;
  /**
   * A quiet stream gets a sign of life after so many milliseconds (15,000; at least 100; Infinity for none), and is
   * UNAVAILABLE without three of them. Of a server of another make, that gives none, it may be quiet for ever.
   */
  heartbeatMs?: number | undefined;
}

/**
 * The items of a stream. Reading them makes the call; `break`, `return` and an error in the loop end it.
 *
 * It can be awaited as well, which gives the stream itself.
 */
export interface Stream<T> extends AsyncIterable<T> {
  [Symbol.asyncIterator](): AsyncIterator<T, undefined>;
}

/** What a client makes its calls with. */
export interface Transport {
  unary<T>(path: string, args: unknown, options?: CallOptions, contract?: string): Promise<T>;
  stream<T>(path: string, args: unknown, options?: CallOptions, contract?: string): Stream<T>;
}

/** How a call ended: in a frame after its items, or in the headers of an answer without any. */
interface Trailers {
  get(name: string): string | null | undefined;
}

const CODES = ("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED " +
  "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS " +
  "UNAUTHENTICATED").split(" ") as readonly (Code | "OK")[];

/** What HTTP statuses mean where no gRPC status came, after gRPC's own table. */
const HTTP: Partial<Record<number, Code>> = {
  400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED",
  429: "UNAVAILABLE", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
};

const MAX_TIMER = 2 ** 31 - 1;
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const TOO_LARGE = "\0integer:";
const LEFT = Symbol();
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Calls to the server at `url`, such as `https://api.example.com`; an empty one is where the page is from. */
export function createTransport(url: string, defaults: ClientOptions = {}): Transport {
  const base = url.replace(/\/+$/, "");
  const heartbeat = Math.max(Math.ceil(defaults.heartbeatMs ?? 15_000), 100); // a server gives no more

  async function* call<T>(
    path: string, args: unknown, options: CallOptions, contract: string, streams: boolean, controller: AbortController,
  ): AsyncGenerator<T, undefined> {
    const address = base + path;
    const aborted = controller.signal;
    const timeout = options.timeoutMs ?? defaults.timeoutMs ?? Infinity;
    let sent = false;
    let over = false;
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;

    const end = (code: Code, message: string, cause?: unknown) => {
      controller.abort(new CallError(code, message, [], [], cause));
    };
    const cancel = () => { end("CANCELLED", "the call was cancelled", options.signal?.reason); };
    const deadline = timeout <= MAX_TIMER
      ? setTimeout(() => { end("DEADLINE_EXCEEDED", "the deadline has passed"); }, timeout)
      : undefined;
    const finish = (told: Trailers): undefined => {
      over = true;
      const code = CODES.find((_, number) => `${number}` === told.get("grpc-status")) ?? "UNKNOWN";
      if (code !== "OK") throw failure(code, told);
    };

    const gone = new Promise<never>((_, reject) => { aborted.addEventListener("abort", reject); });
    // In Node the signal alone is lost once the garbage collector has been there.
    gone.catch(() => reader?.cancel()).catch(() => {});
    const made = (headers?: CallHeaders) => Promise.race([gone, typeof headers === "function" ? headers() : headers]);

    try {
      options.signal?.addEventListener("abort", cancel);
      if (options.signal?.aborted) cancel();
      const headers = new Headers(await made(defaults.headers));
      new Headers(await made(options.headers)).forEach((value, name) => { headers.set(name, value); });
      headers.set("content-type", "application/grpc-web+proto");
      headers.set("x-grpc-web", "1");
      if (timeout < 1e11) {
        const milliseconds = Math.max(Math.ceil(timeout), 0);
        headers.set("grpc-timeout", milliseconds < 1e8 ? `${milliseconds}m` : `${Math.ceil(timeout / 1e3)}S`);
      }
      if (contract) headers.set("ephaptic-contract", contract);
      if (streams) {
        headers.set("ephaptic-batch", "1");
        if (heartbeat < 1e9) headers.set("ephaptic-heartbeat", `${heartbeat}`);
      }
      const body = framed(args);
      sent = true;
      const response = await (defaults.fetch ?? fetch)(address, { method: "POST", headers, body, signal: aborted });
      if (response.headers.has("grpc-status")) return finish(response.headers);
      const kind = response.headers.get("content-type") ?? "no content type";
      if (!response.ok || !kind.startsWith("application/grpc-web")) {
        const message = `not a gRPC-Web answer: HTTP ${response.status}, ${kind}, from ${address}`;
        throw new CallError(HTTP[response.status] ?? "UNKNOWN", message);
      }

      reader = response.body?.getReader();
      let chunks: Uint8Array[] = [];
      let size = 0;
      let needed = 5;
      let beats = false;
      for (;;) {
        if (beats) silence = setTimeout(() => { end("UNAVAILABLE", "the server has fallen silent"); }, 3 * heartbeat);
        const chunk = (await reader?.read())?.value;
        clearTimeout(silence);
        if (!chunk) throw new CallError("UNAVAILABLE", "the connection was lost");
        chunks.push(chunk);
        size += chunk.length;
        if (size < needed) continue;
        let data = joined(chunks, size);
        while (data.length >= (needed = 5)) {
          needed += new DataView(data.buffer, data.byteOffset).getUint32(1);
          if (data.length < needed) break;
          const frame = data.subarray(5, needed);
          if (data[0] === 0x80) return finish(trailers(frame));
          if (data[0]) throw malformed("an unknown frame");
          data = data.subarray(needed);
          const items = values(frame);
          beats ||= !items.length;
          for (const item of items) {
            aborted.throwIfAborted();
            yield item as T;
          }
        }
        chunks = [data];
        size = data.length;
      }
    } catch (error) {
      // What aborted it is what happened, whatever fetch makes of that.
      const reason: unknown = aborted.aborted ? aborted.reason : error;
      if (reason === LEFT) return;
      if (!sent || reason instanceof CallError) throw reason;
      const message = `${address} can't be reached, lets no page from here call it, or the connection was lost`;
      throw new CallError("UNAVAILABLE", message, [], [], reason);
    } finally {
      clearTimeout(deadline);
      clearTimeout(silence);
      options.signal?.removeEventListener("abort", cancel);
      if (!over) controller.abort();
    }
  }

  return {
    async unary<T>(path: string, args: unknown, options: CallOptions = {}, contract = "") {
      const items: T[] = [];
      for await (const item of call<T>(path, args, options, contract, false, new AbortController())) {
        if (items.push(item) > 1) break;
      }
      if (items.length !== 1) throw malformed("not one value");
      return items[0] as T;
    },

    stream<T>(path: string, args: unknown, options: CallOptions = {}, contract = "") {
      const controller = new AbortController();
      let items: AsyncGenerator<T, undefined> | undefined;
      return {
        [Symbol.asyncIterator]() {
          if (items) throw new TypeError("a stream is read once: call the function again");
          const reading = items = call<T>(path, args, options, contract, true, controller);
          return {
            next: () => reading.next(),
            return() {
              controller.abort(LEFT); // else it would wait for the next item
              return reading.return(undefined);
            },
          };
        },
      };
    },
  };
}

function malformed(what: string) {
  return new CallError("INTERNAL", `malformed answer: ${what}`);
}

/** The message that carries arguments, in its frame. */
function framed(args: unknown) {
  const json = encoder.encode(args === undefined ? "" : JSON.stringify(args, (name, value: unknown) => {
    if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value))) {
      throw new TypeError(`${name || "the argument"} is ${value}, which JSON can't carry`);
    }
    return value;
  }));
  const head = [];
  if (json.length) {
    head.push(0x12);
    let rest = json.length;
    for (; rest > 127; rest >>>= 7) head.push((rest & 127) | 128);
    head.push(rest);
  }
  const frame = new Uint8Array(5 + head.length + json.length);
  new DataView(frame.buffer).setUint32(1, frame.length - 5);
  frame.set(head, 5);
  frame.set(json, 5 + head.length);
  return frame;
}

function joined(chunks: Uint8Array[], size: number) {
  if (chunks.length === 1) return chunks[0]!;
  const data = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    data.set(chunk, at);
    at += chunk.length;
  }
  return data;
}

/** The fields of a protobuf message that have a length, and one of these numbers. */
function fields(message: Uint8Array, ...numbers: number[]) {
  const found: Uint8Array[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let unit = 1; at < message.length; unit *= 128) {
      const byte = message[at++]!;
      value += (byte & 127) * unit;
      if (byte < 128) return value;
    }
    return NaN;
  };
  while (at < message.length) {
    const tag = varint();
    const kind = tag & 7;
    const size = kind === 2 ? varint() : kind === 1 ? 8 : kind === 5 ? 4 : kind ? NaN : varint() * 0;
    if (!(at + size <= message.length)) throw malformed("not a protobuf message");
    if (kind === 2 && numbers.includes(tag >>> 3)) found.push(message.subarray(at, at + size));
    at += size;
  }
  return found;
}

/** The values in a Payload: none in a heartbeat, several in a batch. */
function values(payload: Uint8Array): unknown[] {
  // Together, as the text of one array: it is much faster than one by one.
  const list = new Uint8Array(payload.length + 2);
  let end = 0;
  for (const json of fields(payload, 2, 4)) {
    list[end] = end++ ? 0x2c : 0x5b;
    list.set(json, end);
    end += json.length;
  }
  if (!end) return [];
  list[end++] = 0x5d;
  return parsed(list.subarray(0, end));
}

function parsed(json: Uint8Array): unknown[] {
  let large = false;
  let items: unknown[];
  try {
    let text = decoder.decode(json);
    if (/\d{16}/.test(text)) {
      text = text.replace(JSON_TOKENS, (token) => {
        if (!/^-?\d+$/.test(token) || Number.isSafeInteger(+token)) return token;
        large = true;
        return JSON.stringify(TOO_LARGE + token);
      });
    }
    items = JSON.parse(text) as unknown[];
  } catch {
    throw malformed("not JSON");
  }
  if (large) items.forEach((item) => { refuseLarge(item, ""); });
  return items;
}

/** Names the integer that would have become another number. */
function refuseLarge(value: unknown, path: string) {
  if (typeof value === "string" && value.startsWith(TOO_LARGE)) {
    const integer = value.slice(TOO_LARGE.length);
    throw new CallError("INTERNAL", `${path || "the value"} is ${integer}, which a JavaScript number can't hold`);
  }
  if (!value || typeof value !== "object") return;
  for (const [key, item] of Object.entries(value)) {
    refuseLarge(item, Array.isArray(value) ? `${path}[${key}]` : path ? `${path}.${key}` : key);
  }
}

function trailers(frame: Uint8Array): Trailers {
  const found = new Map<string, string>();
  for (const [, name, value] of new TextDecoder().decode(frame).matchAll(/^([^:\n]*):([^\n]*)/gm)) {
    found.set(name!.toLowerCase(), value!.trim());
  }
  return found;
}

function failure(code: Code, told: Trailers) {
  let message = told.get("grpc-message") ?? "";
  const details: unknown[] = [];
  const violations: Violation[] = [];
  try {
    message = decodeURIComponent(message);
    const status = Uint8Array.from(atob(told.get("grpc-status-details-bin") ?? ""), (byte) => byte.charCodeAt(0));
    for (const any of fields(status, 3)) {
      const type = textOf(any, 1).replace(/.*\//, "");
      const value = fields(any, 2).pop() ?? new Uint8Array();
      if (type === "ephaptic_grpc.v1.Payload") {
        details.push(...values(value));
      } else if (type === "google.rpc.BadRequest") {
        violations.push(...fields(value, 1).map((one) => ({ field: textOf(one, 1), description: textOf(one, 2) })));
      } else {
        details.push(type === "google.rpc.ErrorInfo" ? { type, value, reason: textOf(value, 1) } : { type, value });
      }
    }
  } catch {
    // A stranger's details: the code still says what happened.
  }
  return new CallError(code, message, details, violations);
}

function textOf(message: Uint8Array, number: number) {
  return decoder.decode(fields(message, number).pop());
}
