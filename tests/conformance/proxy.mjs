// A loopback address that stands for the gateway: the suite can neither send a token nor test an address that is not
// local. It adds the token, and puts the gateway's address where the client named this one. Nothing else is changed, and
// nothing is buffered. Usage: node proxy.mjs GATEWAY_URL (the token is read from the variable TOKEN); prints its address.
import http from "node:http";
import process from "node:process";

const gateway = new URL(process.argv[2]);
const token = process.env.TOKEN;

const server = http.createServer((request, response) => {
  const own = `localhost:${server.address().port}`;
  const headers = { ...request.headers, authorization: `Bearer ${token}` };
  if (headers.host === own) headers.host = gateway.host;
  if (headers.origin === `http://${own}`) headers.origin = gateway.origin;
  const upstream = http.request(
    { host: gateway.hostname, port: gateway.port || 80, method: request.method, path: request.url, headers },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.on("error", () => response.destroy());
      answer.pipe(response);
    },
  );
  upstream.on("error", () => response.destroy());
  response.on("close", () => upstream.destroy());
  request.pipe(upstream);
});

server.listen(0, "localhost", () => console.log(`http://localhost:${server.address().port}`));
