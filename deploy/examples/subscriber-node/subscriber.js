// A program of a downstream team: it prints each change of one source once, from
// Tercel's enriched events. Take it as the beginning of your own.
//
// Events come at least once, and in no particular order: an id that was dealt
// with is skipped, and so is a version of a record that is not greater than the
// one before. What it can't deal with goes to a dead-letter stream of its own.
//
//   npm install
//   NATS_URL=127.0.0.1:4222 TEAM=shipping SOURCE=orders node subscriber.js
//
// On servers as in deploy/nats a team has an account of its own, and in it one
// consumer of Tercel's, which "tercel setup" makes. What the team keeps is then
// on a server of the team's:
//
//   NATS_URL=nats-0:4222 NATS_NKEY=secrets/seeds/billing.nk NATS_CA=ca.crt \
//   CONSUMER=team_billing TEAM_NATS_URL=127.0.0.1:4222 node subscriber.js
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, headers, nanos, nkeyAuthenticator } from "@nats-io/transport-node";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const team = process.env.TEAM ?? "shipping";
const source = process.env.SOURCE ?? "orders";
const servers = process.env.NATS_URL ?? "127.0.0.1:4222";
const maxTries = 5;

class Unusable extends Error {}

const { NATS_NKEY, NATS_CA, CONSUMER } = process.env;
const options = (url) => ({ servers: url, name: team, maxReconnectAttempts: -1 });
const theirs = options(servers);
if (NATS_NKEY) theirs.authenticator = nkeyAuthenticator(new TextEncoder().encode(readFileSync(NATS_NKEY, "utf8").trim()));
if (NATS_CA) theirs.tls = { caFile: NATS_CA };
const nc = await connect(theirs);
const own = await connect(options(process.env.TEAM_NATS_URL ?? servers));

const ownManager = await jetstreamManager(own);
const dlq = { name: `${team.toUpperCase()}_DLQ`, subjects: [`${team}.dlq`] };
await ownManager.streams.add(dlq); // does nothing if it is there
const kvm = new Kvm(own);
const seen = await kvm.create(`${team}_seen`, { ttl: 7 * 24 * 3600 * 1000 });
const versions = await kvm.create(`${team}_versions`);

const consumer = await (CONSUMER ? jetstream(nc, { domain: "tercel" }).consumers.get("TERCEL_ENRICHED", CONSUMER) : makeConsumer());
const messages = await consumer.consume({ max_messages: 50 });
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => messages.stop());
console.log(JSON.stringify({ ready: true }));

for await (const m of messages) {
  const attempt = m.info.deliveryCount;
  try {
    const outcome = await handle(m);
    console.log(JSON.stringify({ id: m.headers?.get("ce-id"), outcome }));
    await m.ackAck();
  } catch (err) {
    if (!(err instanceof Unusable) && attempt < maxTries) {
      m.nak(1000);
      continue;
    }
    await bury(m, err).then(() => m.ackAck(), (e) => console.error("dead letter not stored:", e.message));
    console.log(JSON.stringify({ id: m.headers?.get("ce-id"), outcome: "dead letter", error: err.message }));
  }
}
await nc.close();
await own.close();

// makeConsumer makes the team's consumer, unless it is there.
async function makeConsumer() {
  const manager = await jetstreamManager(nc);
  await manager.consumers.add("TERCEL_ENRICHED", {
    durable_name: team,
    filter_subject: `tercel.enriched.${source}.>`,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(30_000),
    max_ack_pending: 100,
  });
  return jetstream(nc).consumers.get("TERCEL_ENRICHED", team);
}

// handle has the event's effect, which here is a line of output.
async function handle(m) {
  const event = decode(m);
  const id = key(event.about, event.id);
  if (await seen.get(id)) return "repeated";
  if (event.resource && !(await isNewer(event))) {
    await seen.put(id, "");
    return "not newer";
  }
  console.log(JSON.stringify({ resource: event.resource, subject: event.subject, deleted: event.body.deleted ?? false, record: event.body.record }));
  await seen.put(id, ""); // only now: marked before its effect, it may never have it
  return "done";
}

// isNewer notes the record's version, unless a later one is there.
async function isNewer(event) {
  const name = key(event.about, event.resource, event.subject);
  const had = await versions.get(name);
  const old = had && had.operation === "PUT" ? had.json() : null;
  const now = { version: event.version, observedAt: event.observedAt, deleted: event.body.deleted ?? false };
  if (old) {
    const byTime = now.deleted || old.deleted || now.version === old.version;
    if (byTime ? Date.parse(now.observedAt) < Date.parse(old.observedAt) : Buffer.compare(Buffer.from(now.version), Buffer.from(old.version)) < 0) return false;
  }
  await versions.put(name, JSON.stringify(now), had ? { previousSeq: had.revision } : { previousSeq: 0 });
  return true;
}

// decode reads the attributes, whose values are percent-encoded, and the body.
function decode(m) {
  const header = (name) => {
    try {
      return decodeURIComponent(m.headers?.get(name) ?? "");
    } catch {
      throw new Unusable(`header ${name} is not percent-encoded`);
    }
  };
  const event = {
    id: header("ce-id"), about: header("ce-source"), type: header("ce-type"), subject: header("ce-subject"),
    resource: header("tercel-resource"), version: header("tercel-version"), observedAt: header("tercel-observed-at"),
  };
  if (!event.id || !event.about) throw new Unusable("no ce-id or ce-source");
  try {
    event.body = m.json();
  } catch {
    throw new Unusable("the body is no JSON");
  }
  if (event.body === null || typeof event.body !== "object" || !("record" in event.body)) throw new Unusable("the body has no record");
  return event;
}

// bury stores the message as it is, and why it could not be dealt with.
async function bury(m, err) {
  const h = headers();
  for (const [name, values] of m.headers ?? []) for (const v of values) h.append(name, v);
  h.set("Dead-Letter-Subject", m.subject);
  h.set("Dead-Letter-Error", err.message.replace(/[\x00-\x1f]/g, " "));
  await jetstream(own).publish(`${team}.dlq`, m.data, { headers: h });
}

function key(...parts) {
  return createHash("sha256").update(parts.join("\0")).digest("hex");
}
