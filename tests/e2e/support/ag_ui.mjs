// Runs one message through the official AG-UI client and prints what it made of the stream, as JSON.
import {HttpAgent} from "@ag-ui/client";

const {URL, TOKEN, THREAD, TEXT} = process.env;
const agent = new HttpAgent({url: URL, headers: {Authorization: `Bearer ${TOKEN}`}, threadId: THREAD});
agent.messages = [{id: crypto.randomUUID(), role: "user", content: TEXT}];
const events = [];
const done = await agent.runAgent({}, {onEvent: ({event}) => void events.push(event)});
console.log(JSON.stringify({events, messages: agent.messages, result: done.result}));
