/** connect-web, with the functions that a generated client has: of the service in ``bare.proto``. */

import { create, createFileRegistry, fromBinary, type DescService } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

/** A descriptor set in base64, given when this is bundled. */
declare const DESCRIPTORS: string;

interface Answer { text: string }

export function connect(baseUrl: string) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(DESCRIPTORS, "base64")));
  const service = registry.getService("bare.Chat") as DescService;
  const question = registry.getMessage("bare.Question")!;
  const client = createClient(service, createConnectTransport({ baseUrl, useBinaryFormat: true })) as unknown as {
    reply(request: unknown): Promise<Answer>;
    tokens(request: unknown): AsyncIterable<Answer>;
  };
  const asked = (text: string, count: number) => create(question, { text, count } as never);
  return {
    reply: async (text: string, count: number) => (await client.reply(asked(text, count))).text,
    tokens: (text: string, count: number) => client.tokens(asked(text, count)),
  };
}
