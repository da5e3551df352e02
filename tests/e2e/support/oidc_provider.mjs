// A real OpenID provider (npm oidc-provider) over HTTPS. Each client is a user, who gets access tokens by client credentials.
// ISSUER, AUDIENCE, CERTIFICATE and KEY (files) say what it is. Commands come on standard input, one a line, and each is answered
// with a line when it is done:
//   rotate   signs with a new key from now on; the keys before stay published
//   retire   publishes the newest key alone
import {generateKeyPairSync} from "node:crypto";
import {readFileSync} from "node:fs";
import {createServer} from "node:https";
import {createInterface} from "node:readline";
import {Provider} from "oidc-provider";

const {ISSUER, AUDIENCE, CERTIFICATE, KEY, USERS, SECRET} = process.env;
const keys = [];

function newKey() {
  const {privateKey} = generateKeyPairSync("ec", {namedCurve: "P-256"});
  keys.unshift({...privateKey.export({format: "jwk"}), kid: `key-${Date.now()}-${keys.length}`, alg: "ES256", use: "sig"});
}

function provider() {
  const made = new Provider(ISSUER, {
    jwks: {keys},
    clients: USERS.split(",").map((user) => ({
      client_id: user,
      client_secret: SECRET,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "ES256",
    })),
    cookies: {keys: [SECRET]},
    features: {
      clientCredentials: {enabled: true},
      devInteractions: {enabled: false},
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        // As RFC 8707 has it: a token is for the resource that it was asked for.
        getResourceServerInfo: (_, resource) => ({
          scope: "",
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: "jwt",
          jwt: {sign: {alg: "ES256"}},
        }),
      },
    },
  });
  return made.callback();
}

newKey();
let answer = provider();
const tls = {cert: readFileSync(CERTIFICATE), key: readFileSync(KEY)};
const {hostname, port} = new URL(ISSUER);
createServer(tls, (request, response) => answer(request, response)).listen(Number(port), hostname, () => console.log("ready"));
for await (const command of createInterface({input: process.stdin})) {
  if (command === "rotate") newKey();
  if (command === "retire") keys.splice(1);
  answer = provider();
  console.log(command);
}
process.exit(0);
