// Calls the gRPC port from Node with @grpc/grpc-js, by the .proto files that `compile` writes.
// Arguments: address, folder of the .proto files. Prints JSON.
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [address, folder] = process.argv.slice(2);
const definition = loadSync("web/v1/web.proto", { includeDirs: [folder], keepCase: true });
const { WebService } = grpc.loadPackageDefinition(definition).web.v1;
const client = new WebService(address, grpc.credentials.createInsecure());
const payload = (args) => ({ json: JSON.stringify(args) });

const unary = (method, args) => new Promise((resolve) => {
  client[method](payload(args), (error, reply) => {
    resolve(error ? { code: error.code, message: error.details, details: error.metadata.get("grpc-status-details-bin").length } : JSON.parse(reply.json));
  });
});

const stream = (method, args) => new Promise((resolve) => {
  const items = [];
  client[method](payload(args))
    .on("data", (item) => items.push(JSON.parse(item.json)))
    .on("error", (error) => { items.push({ code: error.code, message: error.details }); resolve(items); })
    .on("end", () => resolve(items));
});

console.log(JSON.stringify({
  add: await unary("Add", [2, 3]),
  fish: await unary("Place", { order: { item: "fish" } }),
  count: await stream("Count", { to: 3 }),
  failing: await stream("FailAfter", { items: 2 }),
}));
client.close();
