// A small old system: an EventEmitter that keeps assessments in memory, with the faults that such systems have.
// It speaks to the store over HTTP, reads commands as JSON lines from its input, and answers each with a line.
// Nothing but Node's own modules.

import { EventEmitter } from "node:events";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

const { STORE_URL: url, STORE_TOKEN: token } = process.env;

// The same as `assessmentstore.legacy.routing.bucket`.
export const bucket = (id) => createHash("sha256").update(id).digest().readUInt32BE(0) % 100;

const records = new Map();
const faults = new Map(); // by assessment id
const emitter = new EventEmitter();
const outgoing = [];
let serial = 0;
let share = { percentage: 0, legacyMode: false };
let after = "";
const heard = new Set();

// Of each life the events, in their order; a fault changes what arrives, and not what is true.
const LIFE = ["assessment.created", "assessment.started", "assessment.progress", "assessment.completed"];

async function ask(method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  for (let attempt = 0; ; attempt++) {
    try {
      const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
      if (answer.status < 500 && answer.status !== 429) return { status: answer.status, body: await answer.json() };
      if (attempt > 100) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    } catch (error) {
      if (attempt > 100) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function change(id, members) {
  const record = records.get(id) ?? { assessmentId: id, retryCount: 0, createdAt: new Date().toISOString() };
  records.set(id, { ...record, ...members, updatedAt: new Date().toISOString() });
}

function event(id, type, members) {
  return { eventId: `e-${id}-${++serial}`, type, assessmentId: id, timestamp: new Date().toISOString(), ...members };
}

emitter.on("event", (told) => {
  const fault = faults.get(told.assessmentId);
  const isEnd = told.type === "assessment.completed";
  if (fault === "wrong-name" && isEnd) outgoing.push({ ...told, type: "assessment.finished" });
  else if (fault === "lost" && isEnd) return;
  else if (fault === "stale-field" && isEnd) outgoing.push({ ...told, result: { overallScore: 1 } });
  else if (fault === "doubled" && isEnd) outgoing.push(told, told);
  else if (fault === "reordered" && isEnd) outgoing.splice(outgoing.findLastIndex((one) => one.assessmentId === told.assessmentId), 0, told);
  else outgoing.push(told);
});

function live(id) {
  const request = { assessmentType: "compliance", options: { deepScan: true }, serverName: "old-1", userId: "ann" };
  const result = { overallScore: 90, totalServers: 3 };
  change(id, { state: "pending", progress: 0, requestData: request });
  emitter.emit("event", event(id, LIFE[0], { data: request }));
  change(id, { state: "processing" });
  emitter.emit("event", event(id, LIFE[1], {}));
  change(id, { progress: 40 });
  emitter.emit("event", event(id, LIFE[2], { progress: 40, message: null }));
  const completedAt = new Date().toISOString();
  change(id, { state: "completed", progress: 100, resultData: result, completedAt });
  emitter.emit("event", event(id, LIFE[3], { result, duration: 5 }));
}

async function flush() {
  while (outgoing.length) await ask("POST", "/legacy/events", outgoing.splice(0, 100));
}

// What the store changed by itself, so that a rollback loses nothing.
async function listen() {
  for (;;) {
    const { body } = await ask("GET", `/legacy/events${after && `?after=${after}`}`);
    const isAll = body.next === after;
    after = body.next;
    for (const told of body.events) {
      if (heard.has(told.eventId)) continue;
      heard.add(told.eventId);
      const id = told.assessmentId;
      if (told.type === "assessment.created") change(id, { state: "pending", progress: 0, requestData: told.data });
      if (told.type === "assessment.started") change(id, { state: "processing" });
      if (told.type === "assessment.progress") change(id, { progress: told.progress });
      if (told.type === "assessment.completed") change(id, { state: "completed", progress: 100, resultData: told.result });
      if (told.type === "assessment.failed") change(id, { state: "failed", errorMessage: told.error });
      if (told.type === "assessment.cancelled") change(id, { state: "cancelled" });
    }
    if (isAll) return;
  }
}

const COMMANDS = {
  // Serve these ids where they are the old system's by the share of the moment; name those that are the store's.
  async serve({ ids }) {
    const { body } = await ask("GET", "/migration");
    share = { percentage: body.migrationPercentage, legacyMode: body.legacyMode };
    const mine = ids.filter((id) => share.legacyMode || bucket(id) >= share.percentage);
    mine.forEach(live);
    await flush();
    return { mine, theirs: ids.filter((id) => !mine.includes(id)), ...share };
  },
  // Live through assessments, each with a fault, and report what is true.
  async fault({ ids }) {
    for (const [id, fault] of Object.entries(ids)) {
      faults.set(id, fault);
      live(id);
    }
    await flush();
    return {};
  },
  async report({ ids }) {
    const wanted = ids ?? [...records.keys()];
    for (let start = 0; start < wanted.length; start += 100) {
      const reports = wanted.slice(start, start + 100).map((id) => ({ type: "assessment.updated", assessmentId: id, data: records.get(id) }));
      await ask("POST", "/legacy/events", reports);
    }
    return { reported: wanted.length };
  },
  async listen() {
    await listen();
    return { ids: [...records.keys()] };
  },
  async export() {
    await listen();
    return { records: [...records.values()] };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...members } = JSON.parse(line);
  try {
    process.stdout.write(`${JSON.stringify(await COMMANDS[command](members))}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: String(error.stack ?? error) })}\n`);
  }
}
