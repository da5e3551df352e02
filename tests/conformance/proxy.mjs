// A loopback address that stands for the gateway, or for an agent's socket: the suite can neither send a token nor test an
// address that is not local. It adds the token, if there is one, and puts the gateway's address where the client named this
// one. What the suite calls by names of its own server it calls by those that the variable NAMES tells: see runner/offered.py.
// Nothing else is changed, and no answer is buffered. Usage: node proxy.mjs GATEWAY_URL|SOCKET (the token is read from the
// variable TOKEN); prints its address.
import http from "node:http";
import process from "node:process";

const target = process.argv[2];
const gateway = target.startsWith("/") ? { socketPath: target } : urlOf(target);
const { TOKEN: token, NAMES: names } = process.env;
const known = names ? JSON.parse(names) : {};

function urlOf(text) {
  const url = new URL(text);
  return { hostname: url.hostname, port: url.port || 80, host: url.host, origin: url.origin };
}

// What the request is to be, and what its header Mcp-Name then is.
function named(body, header) {
  let message;
  try {
    message = JSON.parse(body);
  } catch {
    return { body, header };
  }
  const { method, params } = message;
  const key = method === "resources/read" ? "uri" : "name";
  const meant = known[params?.[key]];
  if (!meant || (method !== "resources/read" && method !== "tools/call")) return { body, header };
  const renamed = { ...message, params: { ...params, [key]: meant.name } };
  if (meant.arguments) renamed.params.arguments = meant.arguments;
  return { body: JSON.stringify(renamed), header: header === params[key] ? meant.name : header };
}

const server = http.createServer(async (request, response) => {
  const own = `localhost:${server.address().port}`;
  const headers = { ...request.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  if (headers.host === own && gateway.host) headers.host = gateway.host;
  if (headers.origin === `http://${own}` && gateway.origin) headers.origin = gateway.origin;
  let body = Buffer.concat(await request.toArray());
  if (names && body.length) {
    const renamed = named(body.toString(), headers["mcp-name"]);
    body = Buffer.from(renamed.body);
    if (renamed.header) headers["mcp-name"] = renamed.header;
    headers["content-length"] = String(body.length);
    delete headers["transfer-encoding"];
  }
  const { socketPath, hostname, port } = gateway;
  const upstream = http.request(
    { socketPath, hostname, port, method: request.method, path: request.url, headers },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.on("error", () => response.destroy());
      answer.pipe(response);
    },
  );
  upstream.on("error", () => response.destroy());
  response.on("close", () => upstream.destroy());
  upstream.end(body);
});

server.listen(0, "localhost", () => console.log(`http://localhost:${server.address().port}`));
