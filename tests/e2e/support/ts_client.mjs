// Uses a workspace with the official TypeScript client and prints what it saw, as JSON. MODE: "legacy", "auto" or a revision.
import {Client, StreamableHTTPClientTransport} from "@modelcontextprotocol/client";

const {ENDPOINT, CREDENTIALS, MODE} = process.env;
const mode = MODE === "legacy" || MODE === "auto" ? MODE : {pin: MODE};
const client = new Client({name: "dexorder-e2e", version: "1"}, {versionNegotiation: {mode}});
const requestInit = {headers: JSON.parse(CREDENTIALS)};
await client.connect(new StreamableHTTPClientTransport(new URL(ENDPOINT), {requestInit}));
const {tools} = await client.listTools();
const called = await client.callTool({name: "run_indicator", arguments: {name: "rsi", last: 1}});
const read = await client.readResource({uri: "context://user-profile"});
console.log(JSON.stringify({tools: tools.map((tool) => tool.name), called: called.structuredContent, read: read.contents}));
await client.close();
